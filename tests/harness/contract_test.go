package harness

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// The Go driver's SIGKILL had a deadline of 30 s of its own, so that longer kill_timeouts never ended.
func TestStopAfterALongTimeout(t *testing.T) {
	b := launch(t)
	task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "args": []string{"ignore"}})
	must(t, task.Stdout.WaitFor("ignoring", 10*time.Second))
	const timeout = 31 * time.Second
	begin := time.Now()
	must(t, b.StopTask(task.ID, timeout, "SIGTERM"))
	if took := time.Since(begin); took < timeout {
		t.Errorf("SIGKILL came after %s", took)
	}
	if result := b.wait(task); result.Signal != 9 || result.ExitCode != 137 {
		t.Errorf("%+v", result)
	}
}

// Without its shim nobody can tell how a task ends: it is told as failed, its processes end, the neighbour goes on.
func TestShimKilled(t *testing.T) {
	b := launch(t)
	task, neighbour := b.sleeper(), b.sleeper()
	info, err := b.InspectTask(task.ID)
	must(t, err)
	shim, err := strconv.Atoi(info.DriverAttributes["shim_pid"])
	must(t, err)
	must(t, syscall.Kill(shim, syscall.SIGKILL))
	if result := b.wait(task); result.Successful() {
		t.Errorf("%+v", result)
	}
	if info, err := b.InspectTask(task.ID); err != nil || info.State != drivers.TaskStateExited {
		t.Errorf("%+v, %v", info, err)
	}
	must(t, b.DestroyTask(task.ID, false))
	must(t, eventually(5*time.Second, func() error { // a killed process takes a moment to be gone
		if left := Leftovers([]int{b.Pid}, task.AllocID); len(left) > 0 {
			return fmt.Errorf("left behind: %q", left)
		}
		return nil
	}))
	if info, err := b.InspectTask(neighbour.ID); err != nil || info.State != drivers.TaskStateRunning {
		t.Errorf("the neighbour: %+v, %v", info, err)
	}
}

// What names may be is the agent's business: whatever they are, the task runs. But the control group has the task's, and
// there are names that it cannot have.
func TestOddNames(t *testing.T) {
	b := launch(t)
	for kind, text := range map[string]string{"space": "a b", "dots": "../../etc", "slash": "a/b", "newline": "a\nb", "dashes": "--help",
		"NUL": "a\x00b", "4 KiB": strings.Repeat("n", 4096), "no ASCII": "größe-日本", "empty": ""} {
		for part, change := range map[string]func(c *drivers.TaskConfig){
			"name": func(c *drivers.TaskConfig) { c.Name = text },
			"id":   func(c *drivers.TaskConfig) { c.ID = c.AllocID + text },
			"job":  func(c *drivers.TaskConfig) { c.JobName, c.JobID, c.TaskGroupName, c.Namespace = text, text, text, text },
		} {
			t.Run(kind+" as "+part, func(t *testing.T) {
				inner := *b
				inner.t = t
				task := inner.task(map[string]any{"image": image("library/busybox:latest"), "command": "hostname"})
				task.AllocDir = "" // its folders have the task's name
				change(task.TaskConfig)
				_, _, err := inner.StartTask(task.TaskConfig)
				if part == "name" && (strings.ContainsAny(text, "/\n\x00") || len(text) > 200) {
					wantError(t, err, "cannot be a control group's: rename the task")
					if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x00") {
						t.Errorf("the name is told as it is: %q", err)
					}
					return
				}
				must(t, err)
				if result := inner.wait(task); !result.Successful() {
					t.Errorf("%+v", result)
				}
				out, err := task.Stdout.All(5 * time.Second)
				must(t, err)
				if name := strings.TrimSpace(out); name == "" || len(name) > 63 {
					t.Errorf("host name %q", name)
				}
			})
		}
	}
}

// A value that ends early for C is refused with the option's name; one that is long, or has line ends, is a value.
func TestOddValues(t *testing.T) {
	b := launch(t)
	const nul = "a\x00b"
	for option, value := range map[string]any{
		"command": nul, "cwd": "/" + nul, "hostname": nul, "args": []string{nul}, "entrypoint": []string{nul},
		"labels": []map[string]any{{"x": nul}}, "sysctl": []map[string]any{{"net.core.somaxconn": nul}}, "image": nul,
		"extra_hosts": []string{nul + ":10.0.0.1"}, "cap_add": []string{nul}, "devices": []string{"/dev/" + nul},
		"volumes": []string{"local/" + nul + ":/x"}, "seccomp_profile": "/" + nul, "apparmor_profile": nul, "runtime": nul,
	} {
		config := map[string]any{"image": image("library/busybox:latest")}
		task := b.task(config)
		config[option] = value
		must(t, task.EncodeConcreteDriverConfig(config)) // HCL, which knows no NUL, has no part in it
		_, _, err := b.StartTask(task.TaskConfig)
		if err == nil {
			t.Errorf("%s with a NUL is taken", option)
		} else if strings.Contains(err.Error(), "\x00") {
			t.Errorf("%s: the NUL is told: %q", option, err)
		}
	}
	_, _, err := b.StartTask(b.task(busybox("true"), func(c *drivers.TaskConfig) { c.Env["ODD"] = nul }).TaskConfig)
	wantError(t, err, "ODD", "NUL")
	long := strings.Repeat("x", 4096)
	wantText(t, b.output("echo $LONG | wc -c; echo \"$LINES\"", nil, func(c *drivers.TaskConfig) { c.Env["LONG"], c.Env["LINES"] = long, "a\nb" }),
		"4097\na\nb\n")
	b.refuses(map[string]any{"hostname": long}, "hostname", "64")
	b.refuses(map[string]any{"image": long}, "image")
}
