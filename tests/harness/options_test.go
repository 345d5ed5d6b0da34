package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
)

func TestFoldersAndEnvironment(t *testing.T) {
	b := launch(t)
	task := b.shell("echo alloc > $NOMAD_ALLOC_DIR/data/a; echo local > $NOMAD_TASK_DIR/l; echo secret > $NOMAD_SECRETS_DIR/s; env",
		nil, func(c *drivers.TaskConfig) { c.Env["GREETING"] = "hello there"; c.Env["PATH"] = "/bin:/elsewhere" })
	if result := b.wait(task); !result.Successful() {
		t.Fatalf("%+v: %s", result, task.Stderr)
	}
	for path, want := range map[string]string{"alloc/data/a": "alloc", "web/local/l": "local", "web/secrets/s": "secret"} {
		data, err := os.ReadFile(filepath.Join(task.root, path))
		must(t, err)
		wantText(t, string(data), want)
	}
	out, err := task.Stdout.All(5 * time.Second)
	must(t, err)
	wantText(t, out, "GREETING=hello there\n", "NOMAD_TASK_DIR=/local\n", "PATH=/bin:/elsewhere\n")
}

func TestCommandAndEntrypoint(t *testing.T) {
	b := launch(t)
	run := func(config map[string]any) string {
		t.Helper()
		config["image"] = image("library/probe:latest") // ENTRYPOINT ["/probe"] CMD ["sleep"]
		task, _ := b.start(config)
		b.wait(task)
		out, err := task.Stdout.All(5 * time.Second)
		must(t, err)
		return out
	}
	if got := run(map[string]any{"command": "args", "args": []string{"a b", ""}}); got != "arg=a b\narg=\n" {
		t.Errorf("command replaces CMD and keeps ENTRYPOINT: %q", got)
	}
	if got := run(map[string]any{"args": []string{"args", "x"}}); got != "arg=x\n" {
		t.Errorf("args alone replace CMD: %q", got)
	}
	if got := run(map[string]any{"entrypoint": []string{"/bin/echo", "a"}, "args": []string{"b"}}); got != "a b\n" {
		t.Errorf("entrypoint replaces both: %q", got)
	}
}

func TestProcessOptions(t *testing.T) {
	b := launch(t)
	out := b.output("pwd; hostname; cat /proc/1/status", map[string]any{"cwd": "/home/made/here", "hostname": "foobar", "seccomp": true})
	wantText(t, out, "/home/made/here\n", "foobar\n", "Seccomp:\t2\n")
	wantText(t, b.output("cat /proc/1/status", map[string]any{"seccomp": false}), "Seccomp:\t0\n")
	wantText(t, b.output("touch /x 2>&1 || true", map[string]any{"readonly_rootfs": true}), "Read-only file system")
	wantText(t, b.output("id -u; id -g", nil, func(c *drivers.TaskConfig) { c.User = "nobody" }), "65534\n65534\n")
	wantText(t, b.output("id -u; id -g", nil, func(c *drivers.TaskConfig) { c.User = "1234:4321" }), "1234\n4321\n")
}

func TestCapabilityOptions(t *testing.T) {
	b := launch(t)
	caps := func(more map[string]any) string {
		t.Helper()
		more["image"], more["command"], more["args"] = image("library/ubuntu:16.04"), "capsh", []string{"--print"}
		task, _ := b.start(more)
		b.wait(task)
		out, err := task.Stdout.All(5 * time.Second)
		must(t, err)
		_, bounding, found := strings.Cut(out, "Bounding set =") // other lines name the absent ones
		if !found {
			t.Fatalf("capsh said %s", out)
		}
		return strings.SplitN(bounding, "\n", 2)[0]
	}
	plain := caps(map[string]any{})
	wantText(t, plain, "cap_chown")
	if strings.Contains(plain, "cap_sys_admin") {
		t.Errorf("cap_sys_admin by default: %s", plain)
	}
	changed := caps(map[string]any{"cap_add": []string{"CAP_SYS_ADMIN"}, "cap_drop": []string{"CAP_CHOWN"}})
	wantText(t, changed, "cap_sys_admin")
	if strings.Contains(changed, "cap_chown") {
		t.Errorf("cap_chown after cap_drop: %s", changed)
	}
}

func TestPrivileged(t *testing.T) {
	b := launch(t)
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	must(t, err)
	bounding := b.output("grep CapBnd /proc/1/status", map[string]any{"privileged": true})
	ours, err := os.ReadFile("/proc/self/status")
	must(t, err)
	if mine := strings.Fields(strings.SplitN(string(ours), "CapBnd:", 2)[1])[0]; !strings.Contains(bounding, mine) {
		t.Errorf("bounding set %q, ours %q, last capability %s", bounding, mine, last)
	}
}

func TestPrivilegedDenied(t *testing.T) {
	denied := launch(t, map[string]any{"allow_privileged": false})
	task := denied.task(map[string]any{"image": "127.0.0.1:1/never/asked:1", "privileged": true})
	_, _, err := denied.StartTask(task.TaskConfig)
	wantError(t, err, "Running privileged jobs are not allowed", "allow_privileged")
}

func TestMounts(t *testing.T) {
	b := launch(t)
	host := filepath.Join(b.dir, "host")
	must(t, os.MkdirAll(host, 0o755))
	must(t, os.WriteFile(filepath.Join(host, "bind.txt"), []byte("hello\n"), 0o644))
	bind := func(options ...string) map[string]any {
		return map[string]any{"mounts": []map[string]any{
			{"type": "bind", "source": host, "target": "/mnt/deep/er", "options": options}}}
	}
	wantText(t, b.output("cat /mnt/deep/er/bind.txt; touch /mnt/deep/er/x 2>&1 || true", bind("rbind", "ro")), "hello", "Read-only")
	b.output("echo back > /mnt/deep/er/back.txt", bind("rbind", "rw"))
	if data, err := os.ReadFile(filepath.Join(host, "back.txt")); err != nil || string(data) != "back\n" {
		t.Errorf("%q, %v", data, err)
	}

	tmpfs := map[string]any{"mounts": []map[string]any{{"type": "tmpfs", "target": "/scratch", "options": []string{"size=1m"}}}}
	wantText(t, b.output("grep ' /scratch ' /proc/mounts", tmpfs), "tmpfs", "size=1024k")

	// A relative source is below the task's own folder.
	task := b.task(map[string]any{"image": image("library/busybox:latest"), "command": "cat", "args": []string{"/etc/app/app.conf"},
		"mounts": []map[string]any{{"type": "bind", "source": "local/app.conf", "target": "/etc/app/app.conf", "options": []string{"rbind", "rw"}}}})
	must(t, os.WriteFile(filepath.Join(task.root, "web/local/app.conf"), []byte("configured"), 0o644))
	_, _, err := b.StartTask(task.TaskConfig)
	must(t, err)
	b.wait(task)
	out, err := task.Stdout.All(5 * time.Second)
	must(t, err)
	wantText(t, out, "configured")

	// Host volumes come as mounts in the task's configuration.
	volume := func(c *drivers.TaskConfig) {
		c.Mounts = []*drivers.MountConfig{{TaskPath: "/ro", HostPath: host, Readonly: true}, {TaskPath: "/rw", HostPath: host}}
	}
	wantText(t, b.output("touch /rw/volume; touch /ro/x 2>&1 || true", nil, volume), "Read-only")
	if _, err := os.Stat(filepath.Join(host, "volume")); err != nil {
		t.Error(err)
	}
}

func TestNetworks(t *testing.T) {
	b := launch(t)
	hostLinks, err := os.ReadDir("/sys/class/net")
	must(t, err)
	private := strings.Fields(b.output("ls /sys/class/net", nil))
	if len(private) != 1 || private[0] != "lo" {
		t.Errorf("a network of its own has only lo: %v", private)
	}
	shared := strings.Fields(b.output("ls /sys/class/net", map[string]any{"host_network": true}))
	if len(shared) != len(hostLinks) {
		t.Errorf("host network: %v", shared)
	}
	dns := b.output("cat /etc/resolv.conf", nil, func(c *drivers.TaskConfig) {
		c.DNS = &drivers.DNSConfig{Servers: []string{"127.0.0.1"}, Searches: []string{"internal.corp"}, Options: []string{"ndots:2"}}
	})
	wantText(t, dns, "nameserver 127.0.0.1\n", "search internal.corp\n", "options ndots:2\n")
}

func TestMemory(t *testing.T) {
	b := launch(t)
	small := func(c *drivers.TaskConfig) {
		c.Resources.NomadResources.Memory = structs.AllocatedMemoryResources{MemoryMB: 32, MemoryMaxMB: 48}
		c.Resources.LinuxResources.MemoryLimitBytes = 48 << 20
	}
	task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "args": []string{"memory", "200000000"}}, small)
	must(t, task.Stdout.WaitFor("eating", 10*time.Second))
	if result := b.wait(task); !result.OOMKilled || result.Successful() {
		t.Errorf("%+v", result)
	}
}

// A job's every mistake has an error that names the value, and leaves nothing behind (launch checks that).
func TestBadInput(t *testing.T) {
	b := launch(t)
	busybox := image("library/busybox:latest")
	for name, test := range map[string]struct {
		config map[string]any
		user   string
		words  []string
	}{
		"malformed reference":   {map[string]any{"image": "Not A Reference!"}, "", []string{"Not A Reference!"}},
		"no image":              {map[string]any{"image": ""}, "", []string{"image"}},
		"unknown repository":    {map[string]any{"image": image("no/such:1")}, "", []string{"no/such"}},
		"unknown tag":           {map[string]any{"image": image("library/busybox:nope")}, "", []string{"nope"}},
		"layer is not gzip":     {map[string]any{"image": image("broken/not-gzip:1")}, "", []string{"broken/not-gzip"}},
		"layer is cut":          {map[string]any{"image": image("broken/truncated:1")}, "", []string{"broken/truncated"}},
		"wrong diffID":          {map[string]any{"image": image("broken/diffid:1")}, "", []string{"sha256:"}},
		"wrong digest":          {map[string]any{"image": image("broken/digest:1")}, "", []string{"sha256:"}},
		"wrong architecture":    {map[string]any{"image": image("broken/arch:1")}, "", []string{"s390x"}},
		"no such platform":      {map[string]any{"image": image("broken/no-such-platform:1")}, "", []string{"linux/"}},
		"unknown command":       {map[string]any{"image": busybox, "command": "reids"}, "", []string{"reids", "not found"}},
		"command is a folder":   {map[string]any{"image": busybox, "command": "/etc"}, "", []string{"/etc"}},
		"not executable":        {map[string]any{"image": busybox, "command": "/etc/not-executable"}, "", []string{"/etc/not-executable", "permission denied"}},
		"unknown user":          {map[string]any{"image": busybox}, "nosuchuser", []string{"nosuchuser"}},
		"unknown capability":    {map[string]any{"image": busybox, "cap_add": []string{"CAP_FLYING"}}, "", []string{"CAP_FLYING"}},
		"bad pull timeout":      {map[string]any{"image": busybox, "image_pull_timeout": "soon"}, "", []string{"image_pull_timeout", "soon"}},
		"negative pull timeout": {map[string]any{"image": busybox, "image_pull_timeout": "-5m"}, "", []string{"image_pull_timeout", "-5m"}},
		"mount source missing": {map[string]any{"image": busybox, "mounts": []map[string]any{
			{"type": "bind", "source": "/no/such/folder", "target": "/mnt", "options": []string{"rbind", "ro"}}}}, "", []string{"/no/such/folder"}},
		"mount without options": {map[string]any{"image": busybox, "mounts": []map[string]any{
			{"type": "bind", "source": "/tmp", "target": "/mnt"}}}, "", []string{"Options cannot be empty for mount type: bind"}},
		"mount escapes the task folder": {map[string]any{"image": busybox, "mounts": []map[string]any{
			{"type": "bind", "source": "local/../../../etc", "target": "/mnt", "options": []string{"rbind"}}}}, "", []string{"local/../../../etc"}},
	} {
		t.Run(name, func(t *testing.T) {
			task := b.task(test.config, func(c *drivers.TaskConfig) { c.User = test.user })
			_, _, err := b.StartTask(task.TaskConfig)
			wantError(t, err, test.words...)
			if structs.IsRecoverable(err) {
				t.Errorf("a mistake in the job is retried: %v", err)
			}
			if left := Leftovers([]int{b.Pid}, task.AllocID); len(left) > 0 {
				t.Errorf("left behind by a failed start: %q", left)
			}
		})
	}

	t.Run("unknown option", func(t *testing.T) {
		_, err := b.NewTask(b.dir, newAllocID(mark), map[string]any{"image": busybox, "imagee": "x"})
		wantError(t, err, "imagee")
	})
	t.Run("image is required", func(t *testing.T) {
		_, err := b.NewTask(b.dir, newAllocID(mark), map[string]any{"command": "true"})
		wantError(t, err, "image")
	})
	t.Run("registry unreachable", func(t *testing.T) {
		task := b.task(map[string]any{"image": "127.0.0.1:1/library/busybox:latest"})
		_, _, err := b.StartTask(task.TaskConfig)
		wantError(t, err, "127.0.0.1:1")
		if !structs.IsRecoverable(err) {
			t.Errorf("not retried: %v", err)
		}
	})
	t.Run("a good task still starts", func(t *testing.T) {
		wantText(t, b.output("echo fine", nil), "fine")
	})
}

func TestPlatformsAndMediaTypes(t *testing.T) {
	b := launch(t)
	for _, name := range []string{"library/busybox:multi", "library/busybox:docker"} {
		task, _ := b.start(map[string]any{"image": image(name), "command": "echo", "args": []string{"ran"}})
		b.wait(task)
		out, err := task.Stdout.All(5 * time.Second)
		must(t, err)
		wantText(t, out, "ran\n")
	}
	whiteout := map[string]any{"image": image("library/redis:alpine"), "entrypoint": []string{"/bin/sh", "-c", "ls -A /var/cache; grep redis /etc/passwd"}}
	task, _ := b.start(whiteout)
	b.wait(task)
	out, err := task.Stdout.All(5 * time.Second)
	must(t, err)
	if !strings.HasPrefix(out, "redis:") {
		t.Errorf("a later layer removes a file and replaces another: %q", out)
	}
}
