package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// relaunch starts a new plugin over the state of a killed one, as an agent does.
func (b *bench) relaunch() {
	b.t.Helper()
	fresh, err := Launch(*driverFlag, b.Config)
	must(b.t, err)
	b.Plugin = fresh
}

// An agent keeps the handle without the driver's own configuration.
func stored(handle *drivers.TaskHandle) *drivers.TaskHandle {
	config := handle.Config.Copy()
	_ = config.EncodeConcreteDriverConfig(nil)
	return &drivers.TaskHandle{Version: handle.Version, Config: config, State: handle.State, DriverState: handle.DriverState}
}

func TestRecoverTwice(t *testing.T) {
	b := launch(t)
	_, handle := b.start(map[string]any{"image": image("library/probe:latest")})
	must(t, b.RecoverTask(handle)) // of a task it knows
}

// Kill -9 of the plugin: all tasks go on with the same pids, their logs continue, their exit codes are true, also
// that of a task which ended meanwhile.
func TestRecoverAfterKill(t *testing.T) {
	const count = 20
	b := launch(t)
	type running struct {
		*Task
		handle *drivers.TaskHandle
		pid    string
	}
	var tasks []running
	for range count {
		task, handle := b.start(map[string]any{"image": image("library/busybox:latest"), "command": "/bin/sh", "args": []string{"-c",
			`i=0; trap 'exit 43' TERM; while [ ! -e /local/go ]; do i=$((i+1)); echo "count $i"; sleep 0.2; done; exit 42`}})
		must(t, task.Stdout.WaitFor("count 1\n", 10*time.Second))
		tasks = append(tasks, running{task, handle, taskPid(t, task)})
	}

	must(t, b.KillNow())
	early := tasks[0]
	must(t, os.WriteFile(filepath.Join(early.root, "web/local/go"), nil, 0o644))
	must(t, eventually(10*time.Second, func() error {
		if _, err := os.Stat("/proc/" + early.pid); err == nil {
			return fmt.Errorf("the task did not end")
		}
		return nil
	}))

	b.relaunch()
	begin := time.Now()
	for _, task := range tasks {
		must(t, b.RecoverTask(stored(task.handle)))
	}
	t.Logf("%d tasks recovered in %s", count, time.Since(begin))

	if result := b.wait(early.Task); result.ExitCode != 42 || result.Signal != 0 {
		t.Errorf("ended while no plugin ran: %+v", result)
	}
	for i, task := range tasks[1:] {
		info, err := b.InspectTask(task.ID)
		must(t, err)
		if info.State != drivers.TaskStateRunning {
			t.Errorf("task %d is %s", i, info.State)
		}
		if pid := taskPid(t, task.Task); pid != task.pid {
			t.Errorf("task %d had pid %s, now %s", i, task.pid, pid)
		}
		at := strings.Count(task.Stdout.String(), "\n")
		must(t, task.Stdout.WaitFor(fmt.Sprintf("count %d\n", at+2), 10*time.Second))
	}
	must(t, b.StopTask(tasks[1].ID, 10*time.Second, ""))
	if result := b.wait(tasks[1].Task); result.ExitCode != 43 {
		t.Errorf("stopped after recovery: %+v", result)
	}
	must(t, os.WriteFile(filepath.Join(tasks[2].root, "web/local/go"), nil, 0o644))
	if result := b.wait(tasks[2].Task); result.ExitCode != 42 {
		t.Errorf("ended after recovery: %+v", result)
	}
	ctx, cancel := contextFor(10 * time.Second)
	defer cancel()
	stats, err := b.TaskStats(ctx, tasks[3].ID, 100*time.Millisecond)
	must(t, err)
	if usage, ok := <-stats; !ok || usage.ResourceUsage.MemoryStats.Usage+usage.ResourceUsage.MemoryStats.RSS == 0 {
		t.Errorf("no stats after recovery: %+v", usage)
	}
}

// A graceful end of the plugin keeps tasks as well.
func TestRecoverAfterShutdown(t *testing.T) {
	b := launch(t)
	task, handle := b.start(map[string]any{"image": image("library/probe:latest")})
	pid := taskPid(t, task)
	begin := time.Now()
	b.Close()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the plugin took %s to end", took)
	}
	b.relaunch()
	must(t, b.RecoverTask(stored(handle)))
	if now := taskPid(t, task); now != pid {
		t.Errorf("pid %s is now %s", pid, now)
	}
	must(t, b.StopTask(task.ID, 10*time.Second, ""))
	if result := b.wait(task); !result.Successful() {
		t.Errorf("%+v", result)
	}
}

func TestRecoverNothing(t *testing.T) {
	b := launch(t)
	task, handle := b.start(map[string]any{"image": image("library/probe:latest")})
	must(t, b.DestroyTask(task.ID, true))
	if err := b.RecoverTask(stored(handle)); err == nil {
		t.Error("recovered a task that was destroyed")
	}
	broken := stored(handle)
	broken.DriverState = []byte("not ours")
	if err := b.RecoverTask(broken); err == nil {
		t.Error("recovered from a state that is not ours")
	}
	wantText(t, b.output("echo fine", nil), "fine")
}

// taskPid finds the task's init by the allocation in its environment: the lowest pid, for children come later.
func taskPid(t *testing.T, task *Task) string {
	t.Helper()
	var pid string
	must(t, eventually(5*time.Second, func() error {
		for _, line := range processes(nil, []string{"NOMAD_ALLOC_ID=" + task.AllocID}) {
			candidate := strings.Fields(line)[1]
			if namespacePid(string(readFile("/proc/"+candidate, "status"))) == "1" {
				pid = candidate
				return nil
			}
		}
		return fmt.Errorf("no process of task %s", task.ID)
	}))
	return pid
}
