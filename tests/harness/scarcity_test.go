package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// Recovered tasks cost one descriptor each, and their statistics a share of what is left: 500 fit a limit of 1,024.
func TestFewDescriptors(t *testing.T) {
	count, limit := 60, 170
	if os.Getenv("NIGHTLY") != "" {
		count, limit = 500, 1024
	}
	few := func(command *exec.Cmd) {
		command.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, limit), command.Path}, command.Args[1:]...)
		command.Path = "/bin/sh"
	}
	b := launch(t)
	handles := make([]*drivers.TaskHandle, count)
	tasks := make([]*Task, count)
	for i := range tasks {
		tasks[i] = b.task(busybox("exec sleep 600"))
	}
	each := func(what string, f func(i int) error) {
		inParallel(count, 2, func(i int) {
			if err := f(i); err != nil {
				t.Errorf("%s of task %d: %v", what, i, err)
			}
		})
		open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.Pid))
		t.Logf("%d descriptors after the %s of %d tasks", len(open), what, count)
	}
	each("start", func(i int) (err error) {
		handles[i], _, err = b.StartTask(tasks[i].TaskConfig)
		return err
	})
	must(t, b.KillNow())
	fresh, err := Launch(*driverFlag, b.Config, few)
	must(t, err)
	b.Plugin = fresh
	each("recovery", func(i int) error { return b.RecoverTask(stored(handles[i])) })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	each("inspection", func(i int) error {
		info, err := b.InspectTask(tasks[i].ID)
		if err == nil && info.State != drivers.TaskStateRunning {
			err = fmt.Errorf("it is %s", info.State)
		}
		return err
	})
	each("statistics", func(i int) error {
		usage, err := b.TaskStats(ctx, tasks[i].ID, time.Second)
		if err != nil {
			return err
		}
		if got := <-usage; got == nil || got.ResourceUsage.MemoryStats.RSS == 0 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	each("exec", func(i int) error {
		if i%10 != 0 { // a shim that has something to tell keeps its connection for events
			return nil
		}
		result, err := b.ExecTask(tasks[i].ID, []string{"true"}, 20*time.Second)
		if err == nil && result.ExitResult.ExitCode != 0 {
			err = fmt.Errorf("%+v", result.ExitResult)
		}
		return err
	})
	cancel()
	each("destroy", func(i int) error { return b.DestroyTask(tasks[i].ID, true) })
}

// A plugin whose processes and threads are used up says so, ends nothing, and goes on once there are some.
func TestFewThreads(t *testing.T) {
	b := launch(t)
	task, _ := b.start(busybox("exec sleep 600"))
	pids := "/sys/fs/cgroup/pids"
	if _, err := os.Stat(pids); err != nil {
		pids = "/sys/fs/cgroup"
		must(t, os.WriteFile(filepath.Join(pids, "cgroup.subtree_control"), []byte("+pids"), 0o644))
	}
	group := filepath.Join(pids, "cd-harness-"+randomHex(4))
	must(t, os.Mkdir(group, 0o755))
	defer os.Remove(group)
	home := cgroupDir(t, strconv.Itoa(b.Pid), "pids")
	write := func(dir, name, text string) { must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) }
	write(group, "cgroup.procs", strconv.Itoa(b.Pid))
	used, err := strconv.Atoi(string(readFile(group, "pids.current")))
	must(t, err)
	failed := 0
	for more := 0; more <= 12; more++ {
		write(group, "pids.max", strconv.Itoa(used+more))
		other := b.task(busybox("exec sleep 600"))
		if _, _, err := b.StartTask(other.TaskConfig); err != nil {
			failed++
			t.Logf("%d more: %v", more, err)
		}
		write(group, "pids.max", "max")
		must(t, b.DestroyTask(other.ID, true))
	}
	write(home, "cgroup.procs", strconv.Itoa(b.Pid))
	if failed == 0 {
		t.Error("no start failed without a thread")
	}
	if info, err := b.InspectTask(task.ID); err != nil || info.State != drivers.TaskStateRunning {
		t.Errorf("%+v %v", info, err)
	}
	b.start(busybox("exec sleep 600"))
}
