"""Jobs as people write them for Docker's and Podman's driver, with only the driver's name changed, and what comes of each:
the task's output, an event, or a refusal that names what is in the way."""

import pytest

import nomad

# What is said of a job. Nothing but `out`: it runs, prints that and ends with 0.
#   group    blocks of the group            task     blocks of the task
#   out      what it prints                 event    words of one of its events
#   refused  words of the one message       running  it is a service that stays up


def sh(line, more=""):
    return f'image = "busybox:latest"\n command = "/bin/sh"\n args = ["-c", "{line}"]\n {more}'


HOST_PORTS = 'network {\n port "http" {}\n}'
BRIDGE_PORTS = 'network {\n mode = "bridge"\n port "http" { to = 8080 }\n}'

JOBS = {
    # What `nomad job init -short` writes, and the network in its shapes.
    "init -short": dict(group='network {\n port "db" {\n to = 6379\n }\n}', running=True,
                        config='image = "redis:alpine"\n ports = ["db"]\n auth_soft_fail = true',
                        event='network { mode = "bridge" }'),
    "no network block": dict(config=sh("ls /sys/class/net"), out="lo\n", event="no network but loopback"),
    "ports of the host": dict(group=HOST_PORTS, config=sh("ls /sys/class/net | wc -l", 'ports = ["http"]'), out="",
                              event="in the host's network"),
    "ports in a bridge": dict(group=BRIDGE_PORTS, config=sh("echo port $NOMAD_PORT_http", 'ports = ["http"]'), out="port 8080\n"),
    "static port on both sides": dict(group='network {\n port "http" {\n static = 18099\n to = 18099\n }\n}',
                                      config=sh("echo port $NOMAD_PORT_http", 'ports = ["http"]'), out="port 18099\n",
                                      event="in the host's network"),
    "network_mode = host": dict(config=sh("test $(ls /sys/class/net | wc -l) -gt 1 && echo more", 'network_mode = "host"'),
                                out="more\n"),
    "network_mode = none": dict(config=sh("ls /sys/class/net", 'network_mode = "none"'), out="lo\n"),
    "network_mode in a bridge": dict(group='network {\n mode = "bridge"\n}', config=sh("echo in", 'network_mode = "bridge"'),
                                     out="in\n"),
    "an unknown port": dict(group=HOST_PORTS, config=sh("x", 'ports = ["metrics"]'), refused=['"metrics"', "network block"]),
    "port_map": dict(group=HOST_PORTS, config=sh("x", "port_map {\n http = 8080\n }"), refused=["port_map", "network"]),
    "a low port for anybody": dict(group='network {\n mode = "bridge"\n}', task='user = "nobody"',
                                   config=sh("echo from $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"), out="from 0\n"),
    # Logging and health.
    "logging json-file": dict(config=sh("echo ok", 'logging {\n type = "json-file"\n config {\n max-size = "10m"\n }\n }'),
                              out="ok\n", event="no effect with this driver: logging"),
    "logging of Podman": dict(config=sh("echo ok", 'logging = {\n driver = "nomad"\n }'), out="ok\n", event="logging"),
    "logging to syslog": dict(config=sh("x", 'logging {\n type = "syslog"\n }'), refused=["logging.type", "syslog", "log"]),
    "healthchecks": dict(config=sh("echo ok", "healthchecks {\n disable = true\n }"), out="ok\n", event="healthchecks"),
    # Credentials.
    "auth": dict(config=sh("echo ok", 'auth {\n username = "u"\n password = "hidden"\n email = "a@b.c"\n'
                                      ' server_address = "registry.example.com"\n }'),
                 out="ok\n", event="auth.email"),
    "auth of Podman": dict(config=sh("echo ok", 'auth {\n username = "u"\n password = "hidden"\n tls_verify = false\n }'),
                           out="ok\n", event="auth.tls_verify"),
    "auth that is empty": dict(config=sh("echo ok", 'auth {\n username = ""\n password = ""\n }'), out="ok\n"),
    # Entry points.
    "command and args": dict(config=sh("echo ok"), out="ok\n"),
    "args alone": dict(config='image = "probe:latest"\n args = ["exit", "0"]'),
    "entrypoint": dict(config='image = "probe:latest"\n entrypoint = ["/bin/echo", "own"]\n args = ["x"]', out="own x\n"),
    "entrypoint = []": dict(config='image = "probe:latest"\n entrypoint = []\n command = "/bin/echo"\n args = ["c"]', out="c\n"),
    'entrypoint = [""]': dict(config='image = "probe:latest"\n entrypoint = [""]\n command = "/bin/echo"', out="\n"),
    "work_dir": dict(config=sh("pwd", 'work_dir = "/tmp"'), out="/tmp\n"),
    # Mounts.
    "volumes": dict(config=sh("echo x >/data/f && cat /data/f && stat -c %a /data", 'volumes = ["local/data:/data"]'),
                    out="x\n755\n"),
    "volumes, read-only": dict(config=sh("echo x 2>/dev/null >/secrets2/f || echo no",
                                         'volumes = ["secrets:/secrets2:ro"]'), out="no\n"),
    "mount bind": dict(config=sh("ls /tpl", 'mount {\n type = "bind"\n source = "local"\n target = "/tpl"\n readonly = true\n'
                                            ' bind_options {\n propagation = "rprivate"\n }\n }'), out=""),
    "mount tmpfs": dict(config=sh("stat -f -c %T /t", 'mount {\n type = "tmpfs"\n target = "/t"\n readonly = false\n'
                                                      " tmpfs_options {\n size = 100000\n }\n }"), out="tmpfs\n"),
    "a named volume": dict(config=sh("x", 'mount {\n type = "volume"\n source = "data"\n target = "/data"\n'
                                          " volume_options {\n no_copy = false\n }\n }"), refused=["volume block"]),
    "volume_options no_copy": dict(config=sh("echo ok", 'mount {\n type = "volume"\n source = "local"\n target = "/d"\n'
                                                        " volume_options {\n no_copy = true\n }\n }"),
                                   out="ok\n", event="mount[0].volume_options"),
    # Everything else that such jobs have.
    "what asks for nothing": dict(config=sh("echo ok", 'cap_add = []\n cap_drop = []\n privileged = false\n interactive = false\n'
                                                      ' port_map {}\n mac_address = ""\n extra_hosts = []\n links = []\n'
                                                      ' storage_opt = {}\n sysctl = {}\n ulimit {}\n devices = []\n'
                                                      ' security_opt = []\n hostname = ""\n isolation = ""\n logging {}'),
                                  out="ok\n"),
    "labels and hostname": dict(config=sh("hostname; echo $HOSTNAME", 'hostname = "web-1"\n labels {\n team = "a"\n }'),
                                out="web-1\nweb-1\n"),
    "tty": dict(config=sh("echo $TERM", "tty = true"), out="xterm\r\n"),
    "limits": dict(config=sh("echo files $(ulimit -n)", 'pids_limit = 100\n ulimit {\n nofile = "2048:4096"\n }\n shm_size = 67108864\n'
                                          " memory_hard_limit = 64\n cpu_hard_limit = true"), out="files 2048\n"),
    "sysctl": dict(config=sh("echo somaxconn $(cat /proc/sys/net/core/somaxconn)", 'sysctl = {\n "net.core.somaxconn" = "4096"\n }'),
                   out="somaxconn 4096\n"),
    "options of Docker's housekeeping": dict(
        config=sh("echo ok", 'container_exists_attempts = 5\n force_pull = false\n image_pull_timeout = "1m"'),
        out="ok\n", event="container_exists_attempts"),
    "load of a file that is not there": dict(config=sh("echo ok", 'load = "image.tar"'), out="ok\n", event="load"),
    "options of Podman's own": dict(config=sh("echo ok", 'socket = "default"\n init_path = "/x"\n userns = "host"\n'
                                                         ' selinux_opts = []\n tmpfs = ["/t"]'), out="ok\n", event="socket"),
    "a GPU by CDI": dict(config=sh("x", 'devices = ["nvidia.com/gpu=all"]'), refused=["CDI", "nvidia.com/gpu=all"]),
    "cores that are not there": dict(config=sh("x", 'cpuset_cpus = "4000"'), refused=["cpuset_cpus", "this node has"]),
    "a reservation above the limit": dict(config=sh("x", 'memory_reservation = "128m"'), refused=["128 MiB", "32 MiB"]),
    "many mistakes": dict(config=sh("x", 'network_mode = "weave"\n mac_address = "02:42:ac:11:00:02"\n'
                                         ' interactive = true\n cap_add = ["flying"]\n volumes = ["nonsense"]'),
                          refused=["weave", "mac_address", "interactive", "nonsense"]),
}

TEMPLATE = """
job "foreign-%(number)d" {
  type = "%(kind)s"
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    %(group)s
    task "t" {
      driver = "containerd-driver"
      config {
        %(config)s
      }
      %(task)s
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }
}
"""


@pytest.fixture(scope="module")
def submitted(agent, registry):
    made = {}
    for number, (name, job) in enumerate(JOBS.items()):
        # An agent that is busy hands on the events of a task that has ended too late for the server to hear of them.
        config = job["config"].replace('["-c", "', '["-c", "trap \'sleep 5\' EXIT; ') if "event" in job else job["config"]
        text = TEMPLATE % dict(number=number, kind="service" if job.get("running") else "batch", group=job.get("group", ""),
                               config=config, task=job.get("task", ""))
        made[name] = agent.run(nomad.with_images(text, registry))
    yield made
    for job in made.values():
        job.stop(purge=True)


def test_there_are_forty():
    assert len(JOBS) >= 40


@pytest.mark.parametrize("name", JOBS)
def test_job(submitted, name):
    wanted, alloc = JOBS[name], submitted[name].alloc()
    if "event" in wanted:
        alloc.wait_event(wanted["event"])
    alloc.wait_state("running" if wanted.get("running") else "dead")
    events = alloc.events()
    if "refused" in wanted:
        failure = next((e for e in events if e.startswith("Driver Failure")), None)
        assert failure, events
        for word in wanted["refused"]:
            assert word in failure, failure
        return
    assert not alloc.task_state()["Failed"], (events, alloc.logs("stderr"))
    if wanted.get("out"):
        alloc.wait_log(wanted["out"])
        assert alloc.logs() == wanted["out"]
    said = [e for e in events if e.startswith("Driver:")]
    if "event" in wanted:
        assert sum(wanted["event"] in e for e in said) == 1, events
    assert not any("hidden" in e for e in events)
