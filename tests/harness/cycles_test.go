package harness

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// Hundreds of tasks later the plugin holds what it held after the first few, and so does the machine.
func TestCycles(t *testing.T) {
	const warm = 20 // caches and thread stacks are in place by then
	b := launch(t)
	var before Usage
	var filesBefore []string
	for i := range *cyclesFlag {
		task, err := b.NewTask(b.dir, newAllocID(mark), map[string]any{"image": image("library/probe:latest")})
		must(t, err)
		_, _, err = b.StartTask(task.TaskConfig)
		must(t, err)
		must(t, task.Stdout.WaitFor("started", 10*time.Second))
		must(t, b.StopTask(task.ID, 10*time.Second, ""))
		if result := b.wait(task); !result.Successful() {
			t.Fatalf("cycle %d: %+v", i, result)
		}
		must(t, b.DestroyTask(task.ID, true))
		if left := Leftovers([]int{b.Pid}, task.AllocID); len(left) > 0 {
			t.Fatalf("cycle %d left behind:\n  %s", i, strings.Join(left, "\n  "))
		}
		task.Remove()
		if i+1 == min(warm, *cyclesFlag/2) {
			before, filesBefore = b.Usage(), Files(b.stateDir, dataDir)
		}
	}
	after := b.Usage()
	_ = eventually(15*time.Second, func() error { // an idle worker thread stays for a while
		if after = b.Usage(); after.Threads > before.Threads {
			return errors.New("more threads")
		}
		return nil
	})
	t.Logf("after %d cycles: %+v, at the end: %+v", warm, before, after)
	if after.Threads > before.Threads || after.FDs > before.FDs {
		t.Errorf("threads or descriptors grew: %+v, then %+v", before, after)
	}
	if !*sanitized && after.RSS > before.RSS+1024 {
		t.Errorf("resident memory grew by %d KiB", after.RSS-before.RSS)
	}
	if files := Files(b.stateDir, dataDir); len(files) > len(filesBefore) {
		t.Errorf("files before:\n  %s\nafter:\n  %s", strings.Join(filesBefore, "\n  "), strings.Join(files, "\n  "))
	}
}

func TestIdle(t *testing.T) {
	b := launch(t)
	b.output("true", nil)
	usage := b.Usage()
	t.Logf("idle after one task: %+v", usage)
	if *sanitized {
		return
	}
	if usage.Threads > 8 {
		t.Errorf("%d threads", usage.Threads)
	}
	if usage.RSS > 10<<10 {
		t.Errorf("%d KiB resident", usage.RSS)
	}
}
