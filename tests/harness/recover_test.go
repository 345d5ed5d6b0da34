package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

// A shim that stands still keeps its task: recovery does not wait for it, and its word counts once it answers.
func TestRecoverWithSlowShim(t *testing.T) {
	b := launch(t)
	task, handle := b.start(busybox("trap 'exit 5' TERM; echo ready; while true; do sleep 0.1; done"))
	must(t, task.Stdout.WaitFor("ready\n", 10*time.Second))
	shim := shimPid(t, b, task)
	must(t, syscall.Kill(shim, syscall.SIGSTOP))
	must(t, b.KillNow())
	b.relaunch()
	must(t, b.RecoverTask(stored(handle)))
	info, err := b.InspectTask(task.ID)
	must(t, err)
	if info.State != drivers.TaskStateRunning {
		t.Errorf("the task is %s", info.State)
	}
	must(t, eventually(20*time.Second, func() error {
		if tries := strings.Count(b.Log.String(), "will ask again"); tries < 2 {
			return fmt.Errorf("asked %d times", tries)
		}
		return nil
	}))
	must(t, syscall.Kill(shim, syscall.SIGCONT))
	must(t, b.StopTask(task.ID, 20*time.Second, ""))
	if result := b.wait(task); result.ExitCode != 5 {
		t.Errorf("%+v", result)
	}
}

// A shim that stands still does not keep a task from being stopped and destroyed.
func TestStopWithHungShim(t *testing.T) {
	b := launch(t)
	task, _ := b.start(busybox("echo ready; exec sleep 600"))
	must(t, task.Stdout.WaitFor("ready\n", 10*time.Second))
	must(t, syscall.Kill(shimPid(t, b, task), syscall.SIGSTOP))
	must(t, b.StopTask(task.ID, 100*time.Millisecond, ""))
	if result := b.wait(task); result.ExitCode != 137 || result.Err == nil {
		t.Errorf("%+v", result)
	}
	must(t, b.DestroyTask(task.ID, false))
}

// A record of another boot: the task is lost, and its pids are other processes now, which must not be touched.
func TestRecoverAfterReboot(t *testing.T) {
	b := launch(t)
	task, handle := b.start(busybox("exec sleep 600"))
	pid := b.inspectedPid(task)
	must(t, b.KillNow())
	editRecord(t, func(record map[string]any) {
		record["boot_id"] = "5c2f7e5e-0000-4000-8000-000000000000"
		bystander := record["init"].(map[string]any)
		bystander["pid"] = os.Getpid()
		record["shim"] = bystander
	})
	b.relaunch()
	wantError(t, b.RecoverTask(stored(handle)), "rebooted")
	must(t, b.DestroyTask(task.ID, true))
	must(t, eventually(5*time.Second, func() error {
		if _, err := os.Stat("/proc/" + pid); err == nil {
			return fmt.Errorf("pid %s still runs", pid)
		}
		return nil
	}))
}

// Handles and records that are not what this version writes.
func TestRecoverFromBadState(t *testing.T) {
	for name, c := range map[string]struct {
		handle string
		record func(map[string]any)
		want   string
	}{
		"Go driver":         {handle: "\x84\xa9StartedAt\xc0\xadContainerName\xa3web\xaaStdoutPath\xa0\xaaStderrPath\xa0", want: "docs/migration.md"},
		"truncated handle":  {handle: `{"driver":"contain`, want: "damaged"},
		"another host":      {handle: `{"driver":"containerd-driver","version":1,"container_id":"x","boot_id":"other"}`, want: "another host"},
		"newer record":      {record: func(r map[string]any) { r["version"] = 99 }, want: "version"},
		"truncated record":  {record: func(r map[string]any) { clear(r) }, want: "record"},
		"start was cut off": {record: func(r map[string]any) { r["phase"] = "starting" }, want: "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			b := launch(t)
			task, handle := b.start(busybox("exec sleep 600"))
			if c.record == nil {
				must(t, b.DestroyTask(task.ID, true))
				handle.DriverState = []byte(c.handle)
				wantError(t, b.RecoverTask(stored(handle)), task.ID, c.want)
				return
			}
			must(t, b.KillNow())
			whole := editRecord(t, c.record)
			b.relaunch()
			wantError(t, b.RecoverTask(stored(handle)), task.ID, c.want)
			must(t, os.WriteFile(recordFile(t), whole, 0o600)) // for the test's own cleaning up
		})
	}
}

func shimPid(t *testing.T, b *bench, task *Task) int {
	t.Helper()
	status, err := b.InspectTask(task.ID)
	must(t, err)
	pid, err := strconv.Atoi(status.DriverAttributes["shim_pid"])
	must(t, err)
	return pid
}

// editRecord changes the one record on disk and returns what it was.
func editRecord(t *testing.T, edit func(map[string]any)) []byte {
	t.Helper()
	path := recordFile(t)
	before, err := os.ReadFile(path)
	must(t, err)
	record := map[string]any{}
	must(t, json.Unmarshal(before, &record))
	edit(record)
	after, err := json.Marshal(record)
	must(t, err)
	must(t, os.WriteFile(path, after, 0o600))
	return before
}

func recordFile(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dataDir, "tasks/*/record.json"))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("records: %v", found)
	}
	return found[0]
}
