package harness

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
)

func asUser(user string) func(*drivers.TaskConfig) {
	return func(c *drivers.TaskConfig) { c.User = user }
}

func TestCapabilitiesOfUsers(t *testing.T) {
	b := launch(t)
	// cap_add means what it says, whoever the task runs as; the defaults stay root's.
	wantText(t, b.output("touch /tmp/f && chown 5 /tmp/f && stat -c %u /tmp/f; grep -E 'Cap(Eff|Amb)' /proc/self/status",
		map[string]any{"cap_drop": []string{"all"}, "cap_add": []string{"chown"}}, asUser("1234:1234")),
		"5\n", "CapEff:\t0000000000000001\n", "CapAmb:\t0000000000000001\n")
	wantText(t, b.output("touch /tmp/f && chown 5 /tmp/f 2>&1 || true; grep CapEff /proc/self/status", nil, asUser("1234:1234")),
		"not permitted", "CapEff:\t0000000000000000\n")
	wantText(t, b.output("grep CapEff /proc/self/status", map[string]any{"cap_drop": []string{"ALL"}}), "CapEff:\t0000000000000000\n")

	// A command in the task has what the task has.
	task := b.shell("sleep 1000", map[string]any{"cap_drop": []string{"ALL"}, "cap_add": []string{"CAP_KILL"}}, asUser("1234"))
	result, err := b.ExecTask(task.ID, []string{"grep", "-E", "Cap(Eff|Bnd)|Seccomp:|NoNewPrivs", "/proc/self/status"}, 10*time.Second)
	must(t, err)
	wantText(t, string(result.Stdout), "CapEff:\t0000000000000020\n", "CapBnd:\t0000000000000020\n", "Seccomp:\t2\n", "NoNewPrivs:\t1\n")
}

func TestSeccompOptions(t *testing.T) {
	b := launch(t)
	// The filter follows the capabilities: mount(2) is let through for those who may.
	mount := "mount -t tmpfs none /mnt 2>&1 && echo mounted || true"
	wantText(t, b.output("mkdir -p /mnt; "+mount, nil), "denied")
	wantText(t, b.output("mkdir -p /mnt; "+mount, map[string]any{"cap_add": []string{"SYS_ADMIN"}}), "mounted")
	wantText(t, b.output("grep Seccomp: /proc/self/status", map[string]any{"security_opt": []string{"seccomp=unconfined"}}), "Seccomp:\t0\n")

	profile := filepath.Join(b.dir, "profile.json")
	for _, form := range []struct{ name, text string }{
		{"oci", `{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
		         "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}`},
		{"docker", `{"defaultAction": "SCMP_ACT_ALLOW",
		            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
		                        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []}],
		            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
		                          "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
		                         {"names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
		                          "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}`},
	} {
		t.Run(form.name, func(t *testing.T) {
			must(t, os.WriteFile(profile, []byte(form.text), 0o600))
			wantText(t, b.output("mkdir /x 2>&1 || true; rmdir /home && echo removed", map[string]any{"seccomp_profile": profile}),
				"No space left", "removed")
		})
	}
	wantText(t, b.output("mkdir /x && echo made; rmdir /x 2>&1 || true",
		map[string]any{"seccomp_profile": profile, "cap_add": []string{"SYS_ADMIN"}}), "made")

	must(t, os.WriteFile(profile, []byte(`{"defaultAction": "nothing"}`), 0o600))
	for _, test := range []struct {
		config map[string]any
		words  []string
	}{
		{map[string]any{"seccomp_profile": profile}, []string{profile, "defaultAction"}},
		{map[string]any{"seccomp_profile": b.dir + "/none"}, []string{b.dir + "/none", "does not exist"}},
		{map[string]any{"seccomp_profile": profile, "seccomp": false}, []string{"seccomp must be set to true, if using a custom seccomp_profile."}},
	} {
		b.refuses(test.config, test.words...)
	}
}

// refuses starts a task that must fail before its image is asked for.
func (b *bench) refuses(config map[string]any, words ...string) {
	b.t.Helper()
	full := map[string]any{"image": "127.0.0.1:1/never/asked:1"}
	for key, value := range config {
		full[key] = value
	}
	_, _, err := b.StartTask(b.task(full).TaskConfig)
	wantError(b.t, err, words...)
	if structs.IsRecoverable(err) {
		b.t.Errorf("%v is retried", err)
	}
}

func TestNoNewPrivileges(t *testing.T) {
	b := launch(t)
	status := func(config map[string]any) string { return b.output("grep NoNewPrivs /proc/self/status", config) }
	wantText(t, status(nil), "NoNewPrivs:\t1\n")
	wantText(t, status(map[string]any{"no_new_privileges": false}), "NoNewPrivs:\t0\n")
	wantText(t, status(map[string]any{"security_opt": []string{"no-new-privileges:false"}}), "NoNewPrivs:\t0\n")
	wantText(t, status(map[string]any{"privileged": true}), "NoNewPrivs:\t0\n")
	wantText(t, status(map[string]any{"privileged": true, "no_new_privileges": true}), "NoNewPrivs:\t1\n")
}

func TestAppArmor(t *testing.T) {
	b := launch(t)
	b.output("true", map[string]any{"apparmor_profile": "unconfined"})
	b.refuses(map[string]any{"apparmor_profile": "no-such-profile"}, "apparmor_profile", "no-such-profile")
	b.refuses(map[string]any{"security_opt": []string{"apparmor=no-such-profile"}}, "no-such-profile")
}

func TestNamespaces(t *testing.T) {
	b := launch(t)
	for option, namespace := range map[string]string{"pid_mode": "pid", "ipc_mode": "ipc", "uts_mode": "uts", "cgroupns": "cgroup"} {
		ours, err := os.Readlink("/proc/self/ns/" + namespace)
		must(t, err)
		line := "readlink /proc/self/ns/" + namespace
		if got := b.output(line, map[string]any{option: "host"}); got != ours+"\n" {
			t.Errorf("%s = host: %q, the host's is %s", option, got, ours)
		}
		if got := b.output(line, nil); got == ours+"\n" {
			t.Errorf("without %s the task is in the host's %s", option, got)
		}
	}
	name, err := os.Hostname()
	must(t, err)
	wantText(t, b.output("hostname; cat /etc/hostname", map[string]any{"uts_mode": "host"}), name+"\n"+name+"\n")
	wantText(t, b.output(fmt.Sprintf("cat /proc/%d/comm", b.Pid), map[string]any{"pid_mode": "host"}), "containerd-driv")

	file := "/dev/shm/" + mark
	must(t, os.WriteFile(file, []byte("shared"), 0o600))
	defer os.Remove(file)
	wantText(t, b.output("cat "+file, map[string]any{"ipc_mode": "host"}), "shared")
	wantText(t, b.output("ls -A /dev/shm; echo end", nil), "end")

	// Its own cgroup is the root of what the task sees.
	seen := b.output("cat /proc/self/cgroup; d=/sys/fs/cgroup; test -d $d/memory && d=$d/memory; mkdir $d/x 2>&1 || true", nil)
	if strings.Contains(seen, mark) || !strings.Contains(seen, "Read-only") {
		t.Errorf("cgroups as the task sees them: %s", seen)
	}
	b.refuses(map[string]any{"pid_mode": "container:x"}, "Invalid pid_mode. Set pid_mode=host to enable host pid namespace.")
}

// A task in the host's pid namespace is no init: what it leaves must end all the same (launch checks that).
func TestHostPidEndsWhole(t *testing.T) {
	b := launch(t)
	task := b.shell("sleep 1000 & sleep 1000 & echo ready; wait", map[string]any{"pid_mode": "host"})
	must(t, task.Stdout.WaitFor("ready", 10*time.Second))
	must(t, b.StopTask(task.ID, 100*time.Millisecond, "SIGTERM"))
	must(t, b.DestroyTask(task.ID, false))
	if left := Leftovers([]int{b.Pid}, task.AllocID); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestDevices(t *testing.T) {
	b := launch(t)
	wantText(t, b.output("ls -l /dev/fuse /dev/mine; head -c 4 /dev/mine | wc -c", map[string]any{"devices": []any{
		"/dev/fuse:rw",
		map[string]any{"host_path": "/dev/zero", "container_path": "/dev/mine", "cgroup_permissions": "r"},
	}}), "10, 229", "1,   5", "4\n")
	wantText(t, b.output("ls /dev/fuse", map[string]any{"devices": []string{"/dev/fuse"}}), "/dev/fuse")
	wantText(t, b.output("ls /dev/fuse", map[string]any{"devices": "/dev/fuse"}), "/dev/fuse")

	// What is not permitted is denied, whatever the file's mode says.
	link := filepath.Join(b.dir, "link")
	must(t, os.Symlink("/dev/kmsg", link))
	denied := b.output("head -c 1 /dev/kmsg 2>&1 || true; echo harness > /dev/kmsg && echo written",
		map[string]any{"devices": []string{link + ":/dev/kmsg:w"}, "cap_add": []string{"SYSLOG", "SYS_ADMIN"}})
	wantText(t, denied, "not permitted", "written")
	wantText(t, b.output("ls /dev/net/tun", map[string]any{"devices": []string{"/dev/net"}}), "/dev/net/tun")

	plugin := func(c *drivers.TaskConfig) {
		c.Devices = []*drivers.DeviceConfig{{TaskPath: "/dev/gpu", HostPath: "/dev/kmsg", Permissions: "r"}}
		c.Mounts = []*drivers.MountConfig{{TaskPath: "/usr/lib/gpu", HostPath: b.dir, Readonly: true}}
		c.Env["GPU"] = "0"
	}
	wantText(t, b.output("ls -l /dev/gpu; echo x 2>/dev/null > /dev/gpu || echo denied; test -d /usr/lib/gpu && echo $GPU", nil, plugin),
		"1,  11", "denied", "0\n")

	hosts, err := os.ReadDir("/dev")
	must(t, err)
	seen := b.output("ls /dev", map[string]any{"privileged": true, "devices": []string{"/dev/zero:/dev/extra"}})
	for _, entry := range hosts {
		if entry.Type()&os.ModeDevice != 0 && entry.Name() != "console" && !strings.Contains(seen, entry.Name()+"\n") {
			t.Errorf("a privileged task does not see /dev/%s", entry.Name())
		}
	}
	wantText(t, seen, "extra\n")

	b.refuses(map[string]any{"devices": []string{"/dev/no-such"}}, "/dev/no-such")
	b.refuses(map[string]any{"devices": []string{"/etc/passwd"}}, "/etc/passwd")
	b.refuses(map[string]any{"devices": []any{map[string]any{"path": "/dev/fuse"}}}, "devices[0].path")
}

func TestGates(t *testing.T) {
	hardened := launch(t, map[string]any{"profile": "hardened"})
	for _, test := range []struct {
		config map[string]any
		gate   string
	}{
		{map[string]any{"privileged": true}, "allow_privileged"},
		{map[string]any{"pid_mode": "host"}, "allowed_modes"},
		{map[string]any{"ipc_mode": "host"}, "allowed_modes"},
		{map[string]any{"uts_mode": "host"}, "allowed_modes"},
		{map[string]any{"cgroupns": "host"}, "allowed_modes"},
		{map[string]any{"host_network": true}, "allowed_modes"},
		{map[string]any{"seccomp": false}, "require_seccomp"},
		{map[string]any{"seccomp_profile": "/etc/hostname"}, "require_seccomp"},
		{map[string]any{"no_new_privileges": false}, "require_no_new_privileges"},
		{map[string]any{"cap_add": []string{"net_admin"}}, "allow_caps"},
		{map[string]any{"cap_add": []string{"ALL"}}, "allow_caps"},
		{map[string]any{"devices": []string{"/dev/fuse"}}, "allow_devices"},
		{map[string]any{"mounts": []map[string]any{{"type": "bind", "source": "/etc", "target": "/mnt", "options": []string{"rbind"}}}}, "volumes.enabled"},
	} {
		hardened.refuses(test.config, test.gate)
	}
	wantText(t, hardened.output("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status", nil), "Seccomp:\t2\n", "NoNewPrivs:\t1\n")

}

func TestGatesThatAreSetWinOverTheProfile(t *testing.T) {
	open := launch(t, map[string]any{"profile": "hardened", "allow_caps": []string{"CHOWN", "NET_ADMIN"},
		"allowed_modes": []string{"network"}, "allow_devices": []string{"/dev/fuse"}, "volumes": map[string]any{"enabled": true}})
	wantText(t, open.output("grep CapBnd /proc/self/status; ls /dev/fuse; cat /mnt/hostname", map[string]any{
		"cap_add": []string{"NET_ADMIN"}, "devices": []string{"/dev/fuse"}, "host_network": true,
		"mounts": []map[string]any{{"type": "bind", "source": "/etc", "target": "/mnt", "options": []string{"rbind", "ro"}}}}),
		"CapBnd:\t0000000000001001\n", "/dev/fuse\n")
	open.refuses(map[string]any{"pid_mode": "host"}, "allowed_modes")
}

// A link in the task's own folder must not lead out of it, when the node does not allow the host's files.
func TestVolumesGateIsNotFooledByLinks(t *testing.T) {
	b := launch(t, map[string]any{"volumes": map[string]any{"enabled": false}})
	task := b.task(map[string]any{"image": "127.0.0.1:1/never/asked:1", "mounts": []map[string]any{
		{"type": "bind", "source": "local/link", "target": "/mnt", "options": []string{"rbind"}}}})
	must(t, os.Symlink("/etc", filepath.Join(task.root, "web/local/link")))
	_, _, err := b.StartTask(task.TaskConfig)
	wantError(t, err, "link")
}

func TestRuntimes(t *testing.T) {
	crun, err := exec.LookPath("crun")
	if err != nil {
		t.Skip("crun is not installed")
	}
	// crun refuses hosts whose cgroups are v1 and v2 at once: here it sees none of the v2 ones.
	withoutV2 := func(cmd *exec.Cmd) {
		line := "while umount /sys/fs/cgroup/unified 2>/dev/null; do :; done; exec " + cmd.Path
		cmd.Args = []string{"unshare", "--mount", "--propagation", "slave", "/bin/sh", "-c", line}
		cmd.Path, err = exec.LookPath("unshare")
		must(t, err)
	}
	b := launchCommand(t, withoutV2, map[string]any{"runtimes": []map[string]any{{"fast": crun}}})
	for name, program := range map[string]string{"fast": "crun", "runc": "runc", "": "runc", "io.containerd.runc.v2": "runc"} {
		task := b.shell("echo up; sleep 1000", map[string]any{"runtime": name})
		must(t, task.Stdout.WaitFor("up", 10*time.Second))
		info, err := b.InspectTask(task.ID)
		must(t, err)
		if got := filepath.Base(info.DriverAttributes["runtime"]); got != program {
			t.Errorf("runtime = %q ran in %s", name, got)
		}
		result, err := b.ExecTask(task.ID, []string{"grep", "Seccomp:", "/proc/self/status"}, 10*time.Second)
		must(t, err)
		wantText(t, string(result.Stdout), "Seccomp:\t2\n")
		for _, tty := range []bool{false, true} {
			s := b.exec(task, tty, "sh", "-c", "test -t 0 && echo terminal; read line; echo got $line; exit 9")
			s.write("it\n")
			s.waitFor(t, "got it")
			if result := s.end(t); result.ExitCode != 9 || strings.Contains(s.out(), "terminal") != tty {
				t.Errorf("%s, tty %v: %+v, %q", name, tty, result, s.out())
			}
			s = b.exec(task, tty, "sh", "-c", "(setsid sleep 71111 &); echo up; sleep 71111")
			s.waitFor(t, "up")
			s.cancel()
			<-s.done
			must(t, eventually(10*time.Second, func() error {
				if left := running("sleep 71111"); len(left) > 0 {
					return fmt.Errorf("%s: the command outlives its caller: %v", name, left)
				}
				return nil
			}))
		}
		must(t, b.DestroyTask(task.ID, true))
	}
	b.refuses(map[string]any{"runtime": "kata"}, "kata", "fast, runc")
	only := launch(t, map[string]any{"runtimes": []map[string]any{{"fast": crun}}, "allow_runtimes": []string{"runc"}})
	only.refuses(map[string]any{"runtime": "fast"}, "fast", "allow_runtimes")
}

func TestPluginConfigurationIsChecked(t *testing.T) {
	for option, value := range map[string]any{
		"containerd_runtime": "io.containerd.runsc.v1", "profile": "paranoid", "allow_caps": []string{"CAP_FLYING"},
		"allowed_modes": []string{"net"}, "runtimes": []map[string]any{{"x": "a/b"}},
	} {
		p, err := Start(*driverFlag)
		must(t, err)
		config := pluginConfig(filepath.Join(baseDir, "unused"))
		config[option] = value
		wantError(t, p.Configure(config), option)
		p.Close()
	}
}

// No secret of a job is where others can read it: a registry's password nowhere, the environment's values in the
// bundle's config.json only, which is root's.
func TestSecretsStaySecret(t *testing.T) {
	t.Setenv("CONTAINERD_DRIVER_LOG_LEVEL", "trace")
	password, value := "pw"+randomHex(31), "ev"+randomHex(31)
	b := launch(t)
	auth := map[string]any{"username": "ci", "password": password}
	withValue := func(c *drivers.TaskConfig) { c.Env["TOKEN"] = value }

	var said []string
	for _, config := range []map[string]any{
		{"image": "127.0.0.1:1/x/y:1", "auth": auth},
		{"image": image("no/such:1"), "auth": auth},
		{"image": image("library/busybox:latest"), "command": "no-such-command", "auth": auth, "force_pull": true},
	} {
		_, _, err := b.StartTask(b.task(config, withValue).TaskConfig)
		if err == nil {
			t.Fatalf("%v starts", config)
		}
		said = append(said, err.Error())
	}
	for _, bad := range []map[string]any{{"username": "ci", "password": []string{password}}, {"username": "ci", "password": password, "x": "y"}} {
		if _, err := b.NewTask(b.dir, newAllocID(mark), map[string]any{"image": "x", "auth": bad}); err != nil {
			continue // the agent's own words, not ours
		}
	}

	// While a registry keeps the image helper waiting its arguments and environment can be seen.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	slow := b.task(map[string]any{"image": listener.Addr().String() + "/x/y:1", "auth": auth}, withValue)
	ended := make(chan error)
	go func() {
		_, _, err := b.StartTask(slow.TaskConfig)
		ended <- err
	}()
	connection, err := listener.Accept()
	must(t, err)
	b.scan(t, password, value)
	listener.Close()
	connection.Close()
	said = append(said, fmt.Sprint(<-ended))

	running := b.shell("sleep 1000", map[string]any{"auth": auth}, withValue)
	result, err := b.ExecTask(running.ID, []string{"sh", "-c", "echo $TOKEN"}, 10*time.Second)
	must(t, err)
	wantText(t, string(result.Stdout), value)
	b.scan(t, password, value)
	info, err := b.InspectTask(running.ID)
	must(t, err)
	said = append(said, fmt.Sprint(info), b.Log.String())
	for _, text := range said {
		for _, secret := range []string{password, value} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is told: %.300s", text[max(0, strings.Index(text, secret)-200):])
			}
		}
	}
}

// scan looks for secrets in the files of the plugin and the processes that are no task.
func (b *bench) scan(t *testing.T, secrets ...string) {
	t.Helper()
	look := func(place string, data []byte) {
		for _, secret := range secrets {
			if strings.Contains(string(data), secret) {
				t.Errorf("a secret is in %s", place)
			}
		}
	}
	for _, root := range []string{b.stateDir, filepath.Join(dataDir, "tasks"), filepath.Join(dataDir, "ingest"), filepath.Join(dataDir, "index.json")} {
		_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if entry.IsDir() && entry.Name() == "rootfs" {
				return filepath.SkipDir
			}
			if !entry.Type().IsRegular() {
				return nil
			}
			data, _ := os.ReadFile(path)
			if entry.Name() != "config.json" {
				look(path, data)
				return nil
			}
			if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s is not root's alone: %v", path, info.Mode())
			}
			return nil
		})
	}
	hosts, err := os.Readlink("/proc/self/ns/pid")
	must(t, err)
	processes, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, dir := range processes {
		if namespace, err := os.Readlink(dir + "/ns/pid"); err != nil || namespace != hosts || dir == fmt.Sprint("/proc/", os.Getpid()) {
			continue
		}
		look(dir+"/cmdline", readFile(dir, "cmdline"))
		look(dir+"/environ", readFile(dir, "environ"))
	}
}
