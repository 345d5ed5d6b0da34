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

// An agent whose state was lost asks for none of its tasks, though their folders are there: they are ended. What it asked
// for lives, and so does what a person started.
func TestDanglingTasks(t *testing.T) {
	b := launch(t, map[string]any{"gc": []map[string]any{{
		"dangling_containers": []map[string]any{{"period": "1s", "creation_grace": "1m"}}}}})
	forgotten, _ := b.start(busybox("exec sleep 600"))
	ended, _ := b.start(busybox("exit 3"))
	b.wait(ended)
	kept, handle := b.start(busybox("exec sleep 600"))
	must(t, b.KillNow())
	b.relaunch()
	must(t, b.RecoverTask(stored(handle)))
	b.housekeeping()
	time.Sleep(45 * time.Second) // within the grace time nothing happens
	if count := len(inits(forgotten)); count != 1 {
		t.Fatalf("%d processes before the grace time was over", count)
	}
	must(t, eventually(75*time.Second, func() error {
		if count := len(inits(forgotten)); count > 0 {
			return fmt.Errorf("it still runs")
		}
		return nil
	}))
	must(t, eventually(5*time.Second, func() error {
		entries, _ := os.ReadDir(filepath.Join(dataDir, "tasks"))
		if len(entries) != 1 {
			return fmt.Errorf("%v", entries)
		}
		return nil
	}))
	info, err := b.InspectTask(kept.ID)
	must(t, err)
	if info.State != drivers.TaskStateRunning || len(inits(kept)) != 1 {
		t.Errorf("what the agent asked for: %v", info.State)
	}
	wantText(t, b.Log.String(), "no agent has asked for it")
}

// What a task without any network of its group gets, and that it is told once, not at each of its starts.
func TestDefaultNetwork(t *testing.T) {
	for fallback, links := range map[string]string{"": "lo", "none": "lo", "host": "more"} {
		t.Run("default_network = "+fallback, func(t *testing.T) {
			b := launch(t, map[string]any{"default_network": fallback})
			events := b.collectEvents()
			task := b.shell("test $(ls /sys/class/net | wc -l) -gt 1 && echo more || ls /sys/class/net", nil)
			must(t, task.Stdout.WaitFor(links, 10*time.Second))
			waitEvent(t, events, "This task ")
			must(t, b.DestroyTask(task.ID, true))
			again := b.again(task)
			must(t, again.reopen())
			_, _, err := b.StartTask(again.TaskConfig)
			must(t, err)
			must(t, b.DestroyTask(again.ID, true))
			if count := strings.Count(events(), "This task "); count != 1 {
				t.Errorf("told %d times:\n%s", count, events())
			}
		})
	}
}

// With one start at a time a second one waits, and can be cancelled while it does.
func TestStartsAtOnce(t *testing.T) {
	slow := newSlowRuntime(t)
	options := slow.options()
	options["starts_at_once"] = 1
	b := launch(t, options)
	first := b.task(busybox("echo up; sleep 600"))
	slow.standAt("create before")
	answers := make(chan error, 1)
	go func() {
		_, _, err := b.StartTask(first.TaskConfig)
		answers <- err
	}()
	slow.waitStanding()
	second := b.task(busybox("echo up; sleep 600"))
	other := make(chan error, 1)
	go func() {
		_, _, err := b.StartTask(second.TaskConfig)
		other <- err
	}()
	select {
	case err := <-other:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(time.Second):
	}
	begin := time.Now()
	must(t, b.DestroyTask(second.ID, true))
	if took := time.Since(begin); took > time.Second {
		t.Errorf("to cancel a start that waits took %s", took)
	}
	if err := <-other; err == nil {
		t.Error("a cancelled start succeeded")
	}
	must(t, os.WriteFile(filepath.Join(slow.dir, "go"), nil, 0o600))
	must(t, <-answers)
	must(t, first.Stdout.WaitFor("up", 10*time.Second))
}
