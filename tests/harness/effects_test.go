package harness

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"
)

// An effect sees, from inside a container, what an option does. It gets the option's name without its blocks.
type effect func(t *testing.T, b *bench)

// elsewhere names the test that sees the effect: a test function of this package, or "file: text" of another suite.
type elsewhere string

// Every option of the table has a line here: TestEveryOptionIsSeen compares the two.
var taskEffects = map[string]any{
	"command":            elsewhere("TestCommandAndEntrypoint"),
	"args":               elsewhere("TestCommandAndEntrypoint"),
	"entrypoint":         effect(seeEntrypoint),
	"cwd":                effect(seeCwd),
	"hostname":           effect(seeHostname),
	"group_add":          effect(seeGroupAdd),
	"init":               effect(seeInit),
	"tty":                effect(seeTTY),
	"labels":             effect(seeLabels),
	"sysctl":             effect(seeSysctl),
	"pids_limit":         effect(seePidsLimit),
	"host_network":       elsewhere("TestNetworks"),
	"network_mode":       effect(seeNetworkMode),
	"ports":              effect(seePorts),
	"extra_hosts":        effect(seeExtraHosts),
	"host_dns":           effect(seeHostDNS),
	"dns_servers":        effect(seeDNS),
	"dns_search_domains": effect(seeDNS),
	"dns_options":        effect(seeDNS),

	"mounts":                          elsewhere("TestMounts"),
	"mounts.type":                     elsewhere("TestMounts"),
	"mounts.target":                   elsewhere("TestMounts"),
	"mounts.source":                   effect(seeSources),
	"mounts.options":                  elsewhere("TestMounts"),
	"mounts.readonly":                 effect(seeDockerMounts),
	"mounts.bind_options":             effect(seePropagation),
	"mounts.bind_options.propagation": effect(seePropagation),
	"mounts.tmpfs_options":            effect(seeDockerMounts),
	"mounts.tmpfs_options.size":       effect(seeDockerMounts),
	"mounts.tmpfs_options.mode":       effect(seeDockerMounts),
	"mount":                           effect(seeDockerMounts),
	"mount.type":                      effect(seeDockerMounts),
	"mount.target":                    effect(seeDockerMounts),
	"mount.source":                    effect(seeDockerMounts),
	"mount.options":                   effect(seeDockerMounts),
	"mount.readonly":                  effect(seeDockerMounts),
	"mount.bind_options":              effect(seePropagation),
	"mount.bind_options.propagation":  effect(seePropagation),
	"mount.tmpfs_options":             effect(seeDockerMounts),
	"mount.tmpfs_options.size":        effect(seeDockerMounts),
	"mount.tmpfs_options.mode":        effect(seeDockerMounts),
	"volumes":                         effect(seeVolumes),
	"tmpfs":                           effect(seeTmpfs),
	"shm_size":                        effect(seeShmSize),
	"readonly_rootfs":                 elsewhere("TestProcessOptions"),

	"image":               elsewhere("TestPlatformsAndMediaTypes"),
	"platform":            effect(seePlatform),
	"image_pull_timeout":  effect(seePullTimeout),
	"image_pull_policy":   elsewhere("TestPullPolicies"),
	"force_pull":          elsewhere("TestPullPolicies"),
	"auth":                elsewhere("tests/nomad/test_go_driver.py: auth"),
	"auth.username":       elsewhere("tests/nomad/test_go_driver.py: auth"),
	"auth.password":       elsewhere("tests/nomad/test_go_driver.py: auth"),
	"auth.server_address": elsewhere("tests/driver/image/credentials_test.cc: each for its server only"),
	"load":                effect(seeLoad),
	"auth_soft_fail":      elsewhere("TestAuthSoftFail"),

	"cap_add":            elsewhere("TestCapabilityOptions"),
	"cap_drop":           elsewhere("TestCapabilityOptions"),
	"privileged":         elsewhere("TestPrivileged"),
	"seccomp":            elsewhere("TestProcessOptions"),
	"seccomp_profile":    elsewhere("TestSeccompOptions"),
	"apparmor_profile":   elsewhere("TestAppArmor"),
	"no_new_privileges":  elsewhere("TestNoNewPrivileges"),
	"security_opt":       elsewhere("TestSeccompOptions"),
	"selinux_opts":       elsewhere("tests/driver/options/security_options_test.cc: selinux_opts"),
	"pid_mode":           elsewhere("TestNamespaces"),
	"ipc_mode":           elsewhere("TestNamespaces"),
	"uts_mode":           elsewhere("TestNamespaces"),
	"cgroupns":           elsewhere("TestNamespaces"),
	"userns_mode":        elsewhere("tests/driver/options/security_options_test.cc: userns"),
	"devices":            elsewhere("TestDevices"),
	"runtime":            elsewhere("TestRuntimes"),
	"ulimit":             elsewhere("TestUlimits"),
	"file_limit":         elsewhere("TestUlimits"),
	"cpu_hard_limit":     elsewhere("TestCPUOptions"),
	"cpu_cfs_period":     elsewhere("TestCPUOptions"),
	"cpuset_cpus":        elsewhere("TestCPUOptions"),
	"cpuset_mems":        elsewhere("tests/driver/spec/limits_test.cc: cpuset_mems"),
	"memory_hard_limit":  elsewhere("TestMemoryOptions"),
	"memory_reservation": elsewhere("TestMemoryOptions"),
	"memory_swap":        elsewhere("TestMemoryOptions"),
	"memory_swappiness":  elsewhere("TestMemoryOptions"),
	"oom_score_adj":      elsewhere("TestOomScore"),
}

type schemaOption struct {
	Name    string
	Type    string
	Example string
	Text    string
	Fields  []schemaOption
}

func readSchema(t *testing.T) map[string][]schemaOption {
	t.Helper()
	out, err := exec.Command(*driverFlag, "schema").Output()
	must(t, err)
	var schema map[string][]schemaOption
	must(t, json.Unmarshal(out, &schema))
	return schema
}

// flatten lists the options by full name; those that exist to be refused, or to be taken without effect, are not among
// them.
func flatten(prefix string, options []schemaOption, into map[string]schemaOption) {
	for _, option := range options {
		if option.Type == "refused" || strings.HasPrefix(option.Type, "no effect") ||
			strings.HasPrefix(option.Text, "Known from Docker's driver. Named volumes") {
			continue
		}
		into[prefix+option.Name] = option
		flatten(prefix+option.Name+".", option.Fields, into)
	}
}

func TestEveryOptionIsSeen(t *testing.T) {
	schema := readSchema(t)
	for kind, effects := range map[string]map[string]any{"plugin": pluginEffects, "task": taskEffects} {
		options := map[string]schemaOption{}
		flatten("", schema[kind], options)
		if len(options) == 0 {
			t.Errorf("the schema has no %s options", kind)
		}
		for name, option := range options {
			if effects[name] == nil {
				t.Errorf("no test sees the effect of the %s option %s: give it a line in %sEffects", kind, name, kind)
			}
			if option.Type == "" || option.Example == "" || option.Text == "" {
				t.Errorf("the %s option %s lacks a type, an example or a text", kind, name)
			}
		}
		for name, seen := range effects {
			if _, exists := options[name]; !exists {
				t.Errorf("%sEffects has a line for %s, which is no option", kind, name)
			}
			if where, is := seen.(elsewhere); is {
				if err := testExists(string(where)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

func testExists(where string) error {
	file, text, other := strings.Cut(where, ": ")
	pattern := filepath.Join(*repoFlag, "tests/harness/*_test.go")
	if other {
		pattern = filepath.Join(*repoFlag, file)
	} else {
		text = "func " + where + "(t *testing.T)"
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(data), text) {
			return nil
		}
	}
	return fmt.Errorf("there is no test %q", where)
}

// Each function once, whatever number of options it sees.
func TestEffects(t *testing.T) {
	b := launch(t)
	names := make([]string, 0, len(taskEffects))
	for name := range taskEffects {
		names = append(names, name)
	}
	sort.Strings(names)
	done := map[string]bool{}
	for _, name := range names {
		see, is := taskEffects[name].(effect)
		if key := fmt.Sprintf("%p", see); !is || done[key] {
			continue
		} else {
			done[key] = true
		}
		t.Run(name, func(t *testing.T) {
			inner := *b
			inner.t = t
			see(t, &inner)
		})
	}
}

// refusedWithImage is refuses of what is only found in an image, or in a network.
func (b *bench) refusedWithImage(config map[string]any, words ...string) {
	b.t.Helper()
	config["image"] = image("library/busybox:latest")
	_, _, err := b.StartTask(b.task(config).TaskConfig)
	wantError(b.t, err, words...)
}

// Of the image for another platform only the name of its command is seen: it is a script without a shell.
func seePlatform(t *testing.T, b *bench) {
	multi := image("library/busybox:multi")
	b.start(map[string]any{"image": multi, "command": "sleep", "args": []string{"60"}})
	other := map[string]string{"amd64": "linux/arm64", "arm64": "linux/amd64"}[runtime.GOARCH]
	task, _ := b.start(map[string]any{"image": multi, "platform": other})
	if result := b.wait(task); result.ExitCode == 0 {
		t.Errorf("the image of %s has a shell: %+v", other, result)
	}
	if err := task.Stderr.WaitFor("/hello", 5*time.Second); err != nil {
		t.Errorf("no word of the other image's command: %v", err)
	}
	b.refuses(map[string]any{"platform": "windows/amd64"}, "windows/amd64", "is not a valid platform")
}

// The registry takes connections and never says a word.
func seePullTimeout(t *testing.T, b *bench) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	task := b.task(map[string]any{"image": silent.Addr().String() + "/a/b:1", "image_pull_timeout": "300ms"})
	_, _, err = b.StartTask(task.TaskConfig)
	wantError(t, err, silent.Addr().String(), "deadline exceeded")
}

func seeEntrypoint(t *testing.T, b *bench) {
	for _, entrypoint := range []any{"/bin/echo", []string{"/bin/echo"}} {
		task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "entrypoint": entrypoint,
			"command": "one", "args": []string{"two"}})
		b.wait(task)
		out, err := task.Stdout.All(5 * time.Second)
		must(t, err)
		if out != "one two\n" {
			t.Errorf("entrypoint %v: %q", entrypoint, out)
		}
	}
}

func seeCwd(t *testing.T, b *bench) {
	for _, name := range []string{"cwd", "work_dir", "working_dir"} {
		wantText(t, b.output("pwd", map[string]any{name: "/home/made"}), "/home/made\n")
	}
	b.refuses(map[string]any{"cwd": "/a", "work_dir": "/b"}, "cwd", "work_dir")
}

func seeHostname(t *testing.T, b *bench) {
	out := b.output("hostname; cat /etc/hostname; grep web-1 /etc/hosts", map[string]any{"hostname": "web-1"})
	wantText(t, out, "web-1\nweb-1\n127.0.1.1\tweb-1\n")
	// Of the group, if the agent tells it: it does so to the drivers that make their networks.
	_, join := netns(t)
	group := func(c *drivers.TaskConfig) {
		join(c)
		c.NetworkIsolation.HostsConfig = &drivers.HostsConfig{Hostname: "from-group", Address: "10.99.0.7"}
	}
	wantText(t, b.output("hostname; cat /etc/hosts", nil, group), "from-group\n", "10.99.0.7\tfrom-group\n")
	wantText(t, b.output("hostname", map[string]any{"hostname": "web-1"}, group), "web-1\n")
	long := b.output("hostname", nil, func(c *drivers.TaskConfig) { c.Name = strings.Repeat("n", 60); c.AllocDir = "" })
	if size := len(strings.TrimSpace(long)); size > 63 {
		t.Errorf("a host name of %d bytes: %s", size, long)
	}
}

func seeGroupAdd(t *testing.T, b *bench) {
	out := b.output("id -G", map[string]any{"group_add": []string{"tty", "2000"}},
		func(c *drivers.TaskConfig) { c.User = "nobody" })
	if got := strings.Fields(out); strings.Join(got, " ") != "65534 5 2000" {
		t.Errorf("groups %v", got)
	}
	b.refusedWithImage(map[string]any{"group_add": []string{"audio"}}, "group_add", "audio")
}

func seeInit(t *testing.T, b *bench) {
	out := b.output("cat /proc/1/comm; echo $$; (true & exit); ls /proc | grep -c '^[0-9]*$' > /dev/null; exit 0",
		map[string]any{"init": true})
	if lines := strings.Fields(out); len(lines) != 2 || !strings.HasPrefix("containerd-driver-init", lines[0]) || lines[1] == "1" {
		t.Errorf("process 1 and the command: %q", out)
	}
	// Without a handler for it, the first process of a namespace would not even see SIGTERM.
	task := b.shell("exec sleep 1000", map[string]any{"init": true})
	must(t, b.StopTask(task.ID, 20*time.Second, "SIGTERM"))
	if result := b.wait(task); result.ExitCode != 128+15 && result.Signal != 15 {
		t.Errorf("%+v", result)
	}
	code := b.shell("exit 7", map[string]any{"init": true})
	if result := b.wait(code); result.ExitCode != 7 {
		t.Errorf("%+v", result)
	}
	b.output("echo x > /run/x || exit 0", map[string]any{"init": true, "readonly_rootfs": true})
}

func seeTTY(t *testing.T, b *bench) {
	line := "if [ -t 1 ]; then echo a terminal; else echo a pipe; fi; echo more >&2"
	wantText(t, b.output(line, nil), "a pipe\n")
	wantText(t, b.output(line, map[string]any{"tty": true}), "a terminal\r\nmore\r\n")
	b.refuses(map[string]any{"interactive": true}, "interactive", "nomad alloc exec")
}

// The bundle is the container's outside; labels are not seen from within.
func seeLabels(t *testing.T, _ *bench) {
	b := launch(t)
	task, handle := b.start(map[string]any{"image": image("library/busybox:latest"), "command": "sleep", "args": []string{"1000"},
		"labels": []map[string]any{{"team": "storage", "run.oci.systemd.force_cgroup_v1": "x"}}})
	inspect := func() {
		t.Helper()
		info, err := b.InspectTask(task.ID)
		must(t, err)
		if info.DriverAttributes["label.team"] != "storage" {
			t.Errorf("%v", info.DriverAttributes)
		}
	}
	inspect()
	must(t, b.KillNow())
	b.relaunch()
	must(t, b.RecoverTask(stored(handle)))
	inspect()
	configs, err := filepath.Glob(filepath.Join(b.stateDir, "bundles/*/config.json"))
	must(t, err)
	var found bool
	for _, path := range configs {
		data, err := os.ReadFile(path)
		must(t, err)
		var spec struct{ Annotations map[string]string }
		must(t, json.Unmarshal(data, &spec))
		if spec.Annotations["containerd-driver.alloc_id"] != task.AllocID {
			continue
		}
		found = true
		if spec.Annotations["containerd-driver.label.team"] != "storage" {
			t.Errorf("%v", spec.Annotations)
		}
		for name := range spec.Annotations {
			if strings.HasPrefix(name, "run.oci") {
				t.Errorf("a label became an order to the runtime: %s", name)
			}
		}
	}
	if !found {
		t.Errorf("no bundle of %s among %v", task.AllocID, configs)
	}
}

func seeSysctl(t *testing.T, b *bench) {
	out := b.output("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni",
		map[string]any{"sysctl": []map[string]any{{"net.core.somaxconn": "1234", "kernel.shmmni": "77"}}})
	wantText(t, out, "1234\n77\n")
	b.refuses(map[string]any{"sysctl": []map[string]any{{"kernel.panic": "1"}}}, "kernel.panic", "whole host")
	b.refuses(map[string]any{"host_network": true, "sysctl": []map[string]any{{"net.core.somaxconn": "1"}}}, "net.core.somaxconn", "host_network")
}

func seePidsLimit(t *testing.T, b *bench) {
	read := "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
	wantText(t, b.output(read, map[string]any{"pids_limit": 20}), "20\n")
	wantText(t, b.output(read, nil), "max\n")
	b.refuses(map[string]any{"pids_limit": -2}, "pids_limit = -2")
}

func TestPidsLimitOfTheNode(t *testing.T) {
	b := launch(t, map[string]any{"pids_limit": 50})
	read := "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
	wantText(t, b.output(read, nil), "50\n")
	wantText(t, b.output(read, map[string]any{"pids_limit": 20}), "20\n")
	b.refuses(map[string]any{"pids_limit": 60}, "pids_limit = 60", "50")
	b.refuses(map[string]any{"pids_limit": -1}, "pids_limit = -1", "50")
}

func seeNetworkMode(t *testing.T, b *bench) {
	host, err := os.ReadDir("/sys/class/net")
	must(t, err)
	if got := strings.Fields(b.output("ls /sys/class/net", map[string]any{"network_mode": "host"})); len(got) != len(host) {
		t.Errorf("host: %v", got)
	}
	if got := strings.TrimSpace(b.output("ls /sys/class/net", map[string]any{"network_mode": "none"})); got != "lo" {
		t.Errorf("none: %q", got)
	}
	b.refuses(map[string]any{"network_mode": "bridge"}, "network_mode", `network { mode = "bridge" }`)
	b.refuses(map[string]any{"network_mode": "container:db"}, "container:db", "network block")
	b.refuses(map[string]any{"network_mode": "none", "host_network": true}, "network_mode", "host_network")
	b.refuses(map[string]any{"port_map": []map[string]any{{"http": 8080}}}, "port_map", "network")
	b.refuses(map[string]any{"logging": []map[string]any{{"type": "gelf"}}}, "logging", "logs")
	b.refuses(map[string]any{"mac_address": "02:42:ac:11:00:02"}, "mac_address", "cni/")
}

func seePorts(t *testing.T, b *bench) {
	b.refuses(map[string]any{"ports": []string{"http"}}, "ports", "http", "network block")
}

// netns is what an agent makes for a group with a network.
func netns(t *testing.T) (string, func(*drivers.TaskConfig)) {
	t.Helper()
	name := "cd-" + randomHex(4)
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { ip("netns", "del", name) })
	ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
	ip("-n", name, "addr", "add", "10.99.0.7/24", "dev", "eth0")
	ip("-n", name, "link", "set", "eth0", "up")
	ip("-n", name, "route", "add", "default", "via", "10.99.0.1")
	return name, func(c *drivers.TaskConfig) {
		c.NetworkIsolation = &drivers.NetworkIsolationSpec{Mode: drivers.NetIsolationModeGroup, Path: "/var/run/netns/" + name}
	}
}

func seeExtraHosts(t *testing.T, b *bench) {
	hosts := []string{"db.local:10.0.0.5", "six:[2001:db8::5]", "host.docker.internal:host-gateway"}
	_, join := netns(t)
	out := b.output("cat /etc/hosts", map[string]any{"extra_hosts": hosts, "hostname": "web-1"}, join)
	wantText(t, out, "10.0.0.5\tdb.local\n", "2001:db8::5\tsix\n", "10.99.0.1\thost.docker.internal\n", "10.99.0.7\tweb-1\n")
	out = b.output("cat /etc/hosts", map[string]any{"extra_hosts": hosts, "host_network": true})
	wantText(t, out, "127.0.0.1\thost.docker.internal\n")
	b.refusedWithImage(map[string]any{"extra_hosts": hosts}, "host-gateway", "bridge")
	b.refuses(map[string]any{"extra_hosts": []string{"db"}}, "bad format for add-host", "db")
	b.refuses(map[string]any{"extra_hosts": []string{"db:10.0.0.x"}}, "invalid IP address in add-host", "10.0.0.x")
	// The file is not in the task's folders: it cannot be replaced from within.
	b.output("test ! -e /local/etc_hosts", map[string]any{"extra_hosts": hosts[:1]})
}

func seeHostDNS(t *testing.T, b *bench) {
	wantText(t, b.output("grep -c ' /etc/resolv.conf ' /proc/mounts", nil), "1\n")
	wantText(t, b.output("grep -c ' /etc/resolv.conf ' /proc/mounts || true", map[string]any{"host_dns": false}), "0\n")
}

func seeDNS(t *testing.T, b *bench) {
	group := func(c *drivers.TaskConfig) {
		c.DNS = &drivers.DNSConfig{Servers: []string{"192.0.2.1"}, Searches: []string{"group.corp"}, Options: []string{"ndots:1"}}
	}
	own := map[string]any{"dns_servers": []string{"192.0.2.2"}, "dns_search_domains": []string{"task.corp"}, "dns_options": []string{"ndots:2"}}
	wantText(t, b.output("cat /etc/resolv.conf", own, group), "nameserver 192.0.2.2\n", "search task.corp\n", "options ndots:2\n")
	mixed := b.output("cat /etc/resolv.conf", map[string]any{"dns_servers": []string{"192.0.2.2"}, "host_dns": false}, group)
	wantText(t, mixed, "nameserver 192.0.2.2\n", "search group.corp\n", "options ndots:1\n")
	b.refuses(map[string]any{"dns_servers": []string{"ns.corp"}}, "dns_servers[0]", "ns.corp")
}

func bindOf(source, target string, more map[string]any) map[string]any {
	mount := map[string]any{"type": "bind", "source": source, "target": target}
	for key, value := range more {
		mount[key] = value
	}
	return mount
}

func seeSources(t *testing.T, b *bench) {
	var mounts []map[string]any
	for target, source := range map[string]string{"/a": "local/d", "/b": "secrets/d", "/c": "alloc/data", "/d": "../alloc/data", "/e": "config/d"} {
		mounts = append(mounts, bindOf(source, target, map[string]any{"options": []string{"rbind", "rw"}}))
	}
	task := b.task(map[string]any{"image": image("library/busybox:latest"), "command": "/bin/sh",
		"args": []string{"-c", "for d in a b c d e; do echo $d > /$d/$d || exit 1; done; ls /"}, "mounts": mounts})
	for _, dir := range []string{"web/local/d", "web/secrets/d", "web/config/d"} {
		must(t, os.MkdirAll(filepath.Join(task.root, dir), 0o755))
	}
	_, _, err := b.StartTask(task.TaskConfig)
	must(t, err)
	if result := b.wait(task); !result.Successful() {
		t.Fatalf("%+v: %s", result, task.Stderr)
	}
	for _, path := range []string{"web/local/d/a", "web/secrets/d/b", "alloc/data/c", "alloc/data/d", "web/config/d/e"} {
		if _, err := os.Stat(filepath.Join(task.root, path)); err != nil {
			t.Error(err)
		}
	}
	for _, source := range []string{"private", "config/../private", "..", "../..", "local/../.."} {
		b.refuses(map[string]any{"mount": []map[string]any{bindOf(source, "/x", nil)}}, source)
	}
}

func seeDockerMounts(t *testing.T, b *bench) {
	host := filepath.Join(b.dir, "docker")
	must(t, os.MkdirAll(host, 0o777))
	for _, label := range []string{"mount", "mounts"} {
		mounts := []map[string]any{
			bindOf(host, "/ro", map[string]any{"readonly": true}),
			bindOf(host, "/rw", map[string]any{"readonly": false}),
			{"type": "tmpfs", "target": "/t", "tmpfs_options": map[string]any{"size": "2m", "mode": "0710"}},
		}
		out := b.output("touch /rw/x; touch /ro/y 2>&1; grep ' /t ' /proc/mounts; stat -c %a /t", map[string]any{label: mounts})
		wantText(t, out, "Read-only file system", "size=2048k", "710\n")
	}
	b.output("touch /rw/z", map[string]any{"mount": []map[string]any{bindOf(host, "/rw", nil)}})
	b.refuses(map[string]any{"mounts": []map[string]any{bindOf(host, "/rw", nil)}}, "Options cannot be empty for mount type: bind")
	b.refuses(map[string]any{"mount": []map[string]any{bindOf(host, "/x", map[string]any{"options": []string{"rw"}, "readonly": true})}}, "mount[0]", "readonly")
	b.refuses(map[string]any{"mount": []map[string]any{{"type": "volume", "source": "redis-data", "target": "/x"}}}, "redis-data", "volume_mount")
	b.refuses(map[string]any{"mount": []map[string]any{bindOf(host, "/x", map[string]any{"volume_options": map[string]any{"driver_config": map[string]any{"name": "nfs"}}})}}, "volume_options", "volume_mount")
}

func seePropagation(t *testing.T, b *bench) {
	host := filepath.Join(b.dir, "shared")
	must(t, os.MkdirAll(host, 0o755))
	must(t, unix.Mount("tmpfs", host, "tmpfs", 0, "size=64k"))
	defer unix.Unmount(host, unix.MNT_DETACH)
	must(t, unix.Mount("", host, "", unix.MS_SHARED, ""))
	must(t, os.MkdirAll(filepath.Join(host, "late"), 0o755))
	must(t, os.MkdirAll(filepath.Join(host, "task"), 0o755))
	for _, test := range []struct {
		propagation      string
		fromHost, toHost bool
	}{{"rprivate", false, false}, {"rslave", true, false}, {"rshared", true, true}} {
		for _, label := range []string{"mount", "mounts"} {
			task := b.shell("echo up; mount -t tmpfs tmpfs /m/task; while [ ! -e /local/go ]; do sleep 0.02; done; grep -c ' /m/late ' /proc/mounts",
				map[string]any{"privileged": true, label: []map[string]any{
					bindOf(host, "/m", map[string]any{"bind_options": map[string]any{"propagation": test.propagation}})}})
			must(t, task.Stdout.WaitFor("up", 10*time.Second))
			must(t, unix.Mount("tmpfs", filepath.Join(host, "late"), "tmpfs", 0, "size=64k"))
			must(t, os.WriteFile(filepath.Join(task.root, "web/local/go"), nil, 0o644))
			b.wait(task)
			out, err := task.Stdout.All(5 * time.Second)
			must(t, err)
			if got := strings.HasSuffix(out, "up\n1\n"); got != test.fromHost {
				t.Errorf("%s: a mount of the host arrives: %v (%q)", test.propagation, got, out)
			}
			mounts, err := os.ReadFile("/proc/mounts")
			must(t, err)
			if got := strings.Contains(string(mounts), " "+host+"/task "); got != test.toHost {
				t.Errorf("%s: a mount of the task arrives: %v", test.propagation, got)
			}
			_ = unix.Unmount(filepath.Join(host, "task"), unix.MNT_DETACH)
			must(t, unix.Unmount(filepath.Join(host, "late"), unix.MNT_DETACH))
		}
	}
}

// What CSI's node plugins and Nomad's volumes ask for comes as mounts of the task's configuration.
func TestPropagationOfVolumes(t *testing.T) {
	b := launch(t)
	host := filepath.Join(b.dir, "csi")
	must(t, os.MkdirAll(host, 0o755))
	must(t, unix.Mount("tmpfs", host, "tmpfs", 0, "size=64k"))
	defer unix.Unmount(host, unix.MNT_DETACH)
	must(t, unix.Mount("", host, "", unix.MS_SHARED, ""))
	must(t, os.MkdirAll(filepath.Join(host, "staged"), 0o755))
	volume := func(c *drivers.TaskConfig) {
		c.Mounts = []*drivers.MountConfig{{TaskPath: "/csi", HostPath: host, PropagationMode: "bidirectional"}}
	}
	b.output("mount -t tmpfs tmpfs /csi/staged", map[string]any{"privileged": true}, volume)
	mounts, err := os.ReadFile("/proc/mounts")
	must(t, err)
	wantText(t, string(mounts), " "+host+"/staged ")
	must(t, unix.Unmount(filepath.Join(host, "staged"), unix.MNT_DETACH))
}

func seeVolumes(t *testing.T, b *bench) {
	host := filepath.Join(b.dir, "volumes")
	must(t, os.MkdirAll(host, 0o777))
	task := b.shell("touch /made/x /rw/x; touch /ro/x", map[string]any{"volumes": []string{"local/new/dir:/made", host + ":/rw", host + ":/ro:ro"}})
	b.wait(task)
	wantText(t, task.Stderr.String(), "Read-only file system")
	if _, err := os.Stat(filepath.Join(task.root, "web/local/new/dir/x")); err != nil {
		t.Error(err)
	}
	missing := filepath.Join(host, "no/such")
	b.refuses(map[string]any{"volumes": []string{missing + ":/x"}}, missing, "does not exist")
	b.refuses(map[string]any{"volumes": []string{"/data"}}, "volumes[0]", "source:target")
	b.refuses(map[string]any{"volume_driver": "rexray"}, "volume_driver", "volume_mount")
}

func seeTmpfs(t *testing.T, b *bench) {
	out := b.output("grep -E ' (/a|/b) ' /proc/mounts", map[string]any{"tmpfs": []string{"/a", "/b:size=1m,mode=0700,noexec"}})
	wantText(t, out, "tmpfs /a tmpfs rw,nosuid,nodev", "size=1024k,mode=700", "noexec")
}

func seeShmSize(t *testing.T, b *bench) {
	read := "grep ' /dev/shm ' /proc/mounts"
	wantText(t, b.output(read, nil), "size=65536k")
	for _, size := range []any{"128m", 128 << 20} {
		wantText(t, b.output(read, map[string]any{"shm_size": size}), "size=131072k")
	}
	b.refuses(map[string]any{"shm_size": "100"}, "shm_size", "4 KiB")
}

// Two folders of an allocation change places all the time, one of them a link to the host's: a task must get its own
// file or none.
func TestSwappedSourceNeverLeadsOutside(t *testing.T) {
	b := launch(t)
	host := filepath.Join(b.dir, "host")
	must(t, os.MkdirAll(host, 0o755))
	must(t, os.WriteFile(filepath.Join(host, "file"), []byte("the host's"), 0o644))
	started := 0
	for i := 0; i < 40; i++ {
		task := b.task(map[string]any{"image": image("library/busybox:latest"), "command": "cat", "args": []string{"/x/file"},
			"mount": []map[string]any{bindOf("local/conf", "/x", nil)}})
		conf, link := filepath.Join(task.root, "web/local/conf"), filepath.Join(task.root, "web/local/link")
		must(t, os.MkdirAll(conf, 0o755))
		must(t, os.WriteFile(filepath.Join(conf, "file"), []byte("the task's"), 0o644))
		must(t, os.Symlink(host, link))
		done := make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-done:
					return
				default:
					_ = unix.Renameat2(unix.AT_FDCWD, conf, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
				}
			}
		}()
		_, _, err := b.StartTask(task.TaskConfig)
		close(done)
		<-ended
		if err != nil {
			wantError(t, err, "local/conf")
			continue
		}
		started++
		b.wait(task)
		if out := task.Stdout.String(); strings.Contains(out, "the host's") {
			t.Fatalf("start %d: the task read %q", i, out)
		}
	}
	if started == 0 {
		t.Error("no start came through: the race was not run")
	}
}

func TestAuthSoftFail(t *testing.T) {
	missing := filepath.Join(baseDir, "no-config.json")
	b := launch(t, map[string]any{"auth": map[string]any{"config": missing}})
	task := b.task(map[string]any{"image": image("library/busybox:latest"), "image_pull_policy": "always"})
	_, _, err := b.StartTask(task.TaskConfig)
	wantError(t, err, missing)
	b.output("true", map[string]any{"image_pull_policy": "always", "auth_soft_fail": true})
}

// After an earlier task of the allocation has put a link in place of the agent's log folder.
func TestReplacedLogFolder(t *testing.T) {
	b := launch(t)
	task := b.task(map[string]any{"image": image("library/busybox:latest"), "command": "ls", "args": []string{"/alloc/logs"}})
	logs := filepath.Join(task.root, "alloc/logs")
	must(t, os.Rename(logs, logs+".away"))
	must(t, os.Symlink("/etc", logs))
	_, _, err := b.StartTask(task.TaskConfig)
	wantError(t, err, "alloc/logs is not a directory")
	must(t, os.Remove(logs))
	must(t, os.Rename(logs+".away", logs))
}

// An archive in local/ is what the image is taken from; without one the registry is asked, and the task is told.
func seeLoad(t *testing.T, b *bench) {
	events := b.collectEvents()
	wantText(t, b.output("echo from the registry", map[string]any{"load": "nothing.tar"}), "from the registry")
	waitEvent(t, events, "no effect with this driver: load")
	task := b.task(map[string]any{"image": "no/such:1", "load": "broken.tar"})
	must(t, os.WriteFile(filepath.Join(task.TaskDir().LocalDir, "broken.tar"), []byte("no archive"), 0o644))
	_, _, err := b.StartTask(task.TaskConfig)
	wantError(t, err, "docker-archive:local/broken.tar:no/such:1")
}
