"""Logs, stats, exits, stops, restarts, networks: what an operator sees of a task."""

import os
import time
import urllib.request

import jobs
from nomad import init_pid, leftovers, read, wait_for


def test_exit_codes(run):
    good = run(jobs.job(jobs.probe("exit", "0"))).alloc().wait_state("dead")
    assert good.exit_code() == 0 and not good.task_state()["Failed"]
    bad = run(jobs.job(jobs.probe("exit", "7"))).alloc().wait_state("dead")
    assert bad.exit_code() == 7 and bad.task_state()["Failed"]


def test_stdout_and_stderr(run):
    alloc = run(jobs.job(jobs.probe("both"))).running()[0]
    assert alloc.wait_log("out\n", "stdout") == "out\n"
    assert alloc.wait_log("err\n", "stderr") == "err\n"


def test_all_of_a_burst_is_logged(run):
    alloc = run(jobs.job(jobs.probe("burst", "3000000"))).alloc().wait_state("dead")
    wait_for("the log has not all 3,000,000 bytes", lambda: len(alloc.logs()) == 3_000_000)


def test_logs_can_be_off(run):
    alloc = run(jobs.job(jobs.probe("both"), task="logs {\n disabled = true\n }")).running()[0]
    assert alloc.pid()


def test_stats_move(run):
    alloc = run(jobs.job(jobs.probe("spin"))).running()[0]

    def sample():
        usage = alloc.stats()["ResourceUsage"]
        return usage if usage and usage["CpuStats"]["TotalTicks"] > 0 else None

    first = wait_for("no CPU in the stats", sample)
    assert first["MemoryStats"]["RSS"] > 0 or first["MemoryStats"]["Usage"] > 0
    stamp = alloc.stats()["Timestamp"]
    wait_for("the stats stand still", lambda: alloc.stats()["Timestamp"] > stamp)


def test_stop_returns_with_the_process(run):
    """And not with the end of the kill_timeout, in which the agent would still call the task running."""
    job = run(jobs.job(jobs.probe("sleep"), kind="service", task='kill_timeout = "60s"'))
    alloc = job.running()[0]
    alloc.wait_log("started")
    job.stop()
    alloc.wait_state("dead", 50)
    assert alloc.exit_code() == 0


def test_kill_timeout(run):
    job = run(jobs.job(jobs.probe("ignore"), kind="service", task='kill_timeout = "2s"'))
    alloc = job.running()[0]
    alloc.wait_log("ignoring")
    begin = time.monotonic()
    job.stop()
    alloc.wait_state("dead")
    assert time.monotonic() - begin >= 2  # not before
    assert alloc.exit_code() == 137


def test_kill_signal(run):
    job = run(jobs.job({"image": "shm32/signal_handler:1.0"}, kind="service",
                       task='kill_signal = "SIGUSR1"\n kill_timeout = "1s"'))
    alloc = job.running()[0]
    alloc.wait_log("Waiting")
    job.stop()
    alloc.wait_state("dead")
    assert "Received signal: SIGUSR1" in alloc.logs()


def test_restart_after_failure(run):
    line = "echo run; n=$(wc -l < /alloc/data/runs 2>/dev/null || echo 0); echo x >> /alloc/data/runs; [ $n -ge 2 ] && sleep 1000; exit 3"
    alloc = run(jobs.job(jobs.shell(line), kind="service", restarts=5)).alloc()
    wait_for(lambda: f"not restarted twice: {alloc.events()}", lambda: alloc.task_state()["Restarts"] >= 2)
    alloc.wait_state("running")
    wait_for("the third run does not write", lambda: alloc.logs().count("run\n") == 3)


def test_out_of_memory(run):
    alloc = run(jobs.job(jobs.probe("memory", "200000000"))).alloc().wait_state("dead")
    assert alloc.task_state()["Failed"]
    assert any("OOM" in event for event in alloc.events()), alloc.events()


def test_memory_max(run):
    alloc = run(jobs.job(jobs.probe("sleep"), memory="32\n        memory_max = 64")).running()[0]
    groups = dict(line.split(":", 2)[1:] for line in read(f"/proc/{alloc.pid()}/cgroup").decode().split())
    if "memory" in groups:
        limit = read(f"/sys/fs/cgroup/memory{groups['memory']}/memory.limit_in_bytes")
    else:
        limit = read(f"/sys/fs/cgroup{groups['']}/memory.max")
    assert int(limit) == 64 << 20


def test_template_and_mount(run):
    template = 'template {\n data = "from a template"\n destination = "local/app.conf"\n }'
    config = jobs.shell("cat /etc/app/app.conf; sleep 1000", mounts=[
        {"type": "bind", "source": "local/app.conf", "target": "/etc/app/app.conf", "options": ["rbind", "ro"]}])
    run(jobs.job(config, task=template)).running()[0].wait_log("from a template")


def test_host_volume(run, agent):
    group = 'volume "data" {\n type = "host"\n source = "s1"\n }'
    task = 'volume_mount {\n volume = "data"\n destination = "/data"\n }'
    run(jobs.job(jobs.shell("echo here > /data/file"), group=group, task=task)).alloc().wait_state("dead")
    assert (agent.base / "volume/file").read_text() == "here\n"


def test_user_and_environment(run):
    task = 'user = "nobody"\n env {\n GREETING = "hello"\n }'
    run(jobs.job(jobs.shell("id -u; echo $GREETING; sleep 1000"), task=task)).running()[0].wait_log("65534\nhello\n")


def test_own_network(run):
    alloc = run(jobs.job(jobs.shell("ls /sys/class/net; sleep 1000"))).running()[0]
    assert alloc.wait_log("lo").split() == ["lo"]


def test_bridge_network(run, agent):
    """Joins the namespace that the agent made; a service in it is reached through the mapped port."""
    group = 'network {\n mode = "bridge"\n port "http" {\n to = 8080\n }\n }'
    line = "mkdir -p /www && echo welcome > /www/index.html && ls /sys/class/net && exec httpd -f -p 8080 -h /www"
    alloc = run(jobs.job(jobs.shell(line), group=group, kind="service")).running()[0]
    assert "eth0" in alloc.wait_log("eth0").split()
    assert os.readlink(f"/proc/{alloc.pid()}/ns/net") != os.readlink("/proc/self/ns/net")
    port = alloc.info()["AllocatedResources"]["Shared"]["Ports"][0]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def fetch():
        try:
            with opener.open(f"http://{port['HostIP']}:{port['Value']}/", timeout=5) as answer:
                return answer.read()
        except OSError:
            return None

    assert wait_for("the port does not answer", fetch, 15) == b"welcome\n"


def test_an_ended_task_leaves_nothing(run):
    job = run(jobs.job(jobs.probe("sleep"), kind="service"))
    alloc = job.running()[0]
    alloc.pid()
    job.stop()
    alloc.wait_state("dead")
    wait_for(lambda: f"left behind: {leftovers([alloc.id])}",
             lambda: not init_pid(alloc.id) and not [x for x in leftovers([alloc.id]) if "/secrets" not in x and "/private" not in x], 10)
