package harness

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slowRuntime is tests/root/tools/slow_runtime in a folder of the test's own.
type slowRuntime struct {
	t    *testing.T
	dir  string
	path string
}

func newSlowRuntime(t *testing.T) *slowRuntime {
	t.Helper()
	s := &slowRuntime{t: t, dir: filepath.Join(baseDir, "runtime-"+randomHex(4))}
	s.path = filepath.Join(s.dir, "slow_runtime")
	must(t, os.MkdirAll(s.dir, 0o755))
	text, err := os.ReadFile(filepath.Join(*repoFlag, "tests/root/tools/slow_runtime"))
	must(t, err)
	must(t, os.WriteFile(s.path, text, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	return s
}

func (s *slowRuntime) options() map[string]any { return map[string]any{"runtime_binary": s.path} }

// standAt makes the next call of that kind stand still.
func (s *slowRuntime) standAt(moment string) {
	must(s.t, os.WriteFile(filepath.Join(s.dir, "moment"), []byte(moment+"\n"), 0o600))
}

// waitStanding returns the pids of the call that stands still; later calls run through.
func (s *slowRuntime) waitStanding() []int {
	s.t.Helper()
	var text []byte
	must(s.t, eventually(10*time.Second, func() (err error) {
		text, err = os.ReadFile(filepath.Join(s.dir, "stands"))
		return err
	}))
	must(s.t, os.Remove(filepath.Join(s.dir, "moment")))
	var pids []int
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		must(s.t, err)
		pids = append(pids, pid)
	}
	return pids
}

func kill9(pids ...int) {
	for i := len(pids) - 1; i >= 0; i-- {
		_ = syscall.Kill(pids[i], syscall.SIGKILL)
	}
}

// shimsOf are the pids of the shims of a plugin's state folder.
func (b *bench) shims() []int {
	var pids []int
	for _, line := range processes(map[int]bool{b.Pid: true}, []string{b.stateDir + "/bundles/"}) {
		fields := strings.Fields(line)
		if strings.HasPrefix(fields[2], "containerd-shim") {
			pid, _ := strconv.Atoi(fields[1])
			pids = append(pids, pid)
		}
	}
	return pids
}

// Plugin, shim or runtime killed at any moment of create and start, with mounts of all kinds under way: the start may
// be repeated, and the repeated one succeeds.
func TestKillInsideCreateAndStart(t *testing.T) {
	for _, who := range []string{"plugin", "shim", "runtime"} {
		for _, moment := range []string{"create before", "create inside", "create after", "start before", "start after"} {
			t.Run(who+" at "+moment, func(t *testing.T) {
				slow := newSlowRuntime(t)
				b := launch(t, slow.options())
				config := busybox("echo started; sleep 600")
				config["volumes"] = []string{"local/data:/data", "/etc:/host-etc:ro"}
				task := b.task(config)
				slow.standAt(moment)
				answer := make(chan error, 1)
				go func() {
					_, _, err := b.StartTask(task.TaskConfig)
					answer <- err
				}()
				pids := slow.waitStanding()
				switch who {
				case "plugin":
					must(t, b.KillNow())
				case "shim":
					shims := b.shims()
					if len(shims) != 1 {
						t.Fatalf("shims: %v", shims)
					}
					kill9(shims...)
				case "runtime":
					kill9(pids...)
				}
				err := <-answer
				if err == nil {
					t.Fatal("it started")
				}
				if who == "plugin" {
					b.relaunch()
				} else if !recoverable(err) {
					t.Errorf("no retry after %v", err)
				} else {
					b.nothingOf(task)
				}
				must(t, task.reopen())
				_, _, err = b.StartTask(task.TaskConfig)
				must(t, err)
				must(t, task.Stdout.WaitFor("started\n", 10*time.Second))
				if count := len(inits(task)); count != 1 {
					t.Errorf("the task runs %d times", count)
				}
				must(t, b.DestroyTask(task.ID, true))
				b.nothingOf(task)
			})
		}
	}
}

// kill -9 between any two steps of an undoing, and an error at each: the next call goes on where it ended.
func TestFaultAtEveryStepOfUndoing(t *testing.T) {
	for _, point := range []string{"teardown.shim", "teardown.stage", "teardown.rootfs", "teardown.cgroup", "teardown.bundle", "teardown.trashed"} {
		t.Run(point+"/killed", func(t *testing.T) {
			b := launchWithFault(t, point+":1*kill")
			task, _ := b.start(busybox("sleep 600"))
			if err := b.DestroyTask(task.ID, true); err == nil {
				t.Fatal("the plugin was to die")
			}
			must(t, b.waitGone())
			b.relaunch()
			must(t, b.DestroyTask(task.ID, true))
			b.nothingOf(task)
		})
		if point == "teardown.trashed" {
			continue // what is in the trash is the reaper's
		}
		t.Run(point+"/once", func(t *testing.T) {
			b := launchWithFault(t, point+":1*error(EIO)")
			task, _ := b.start(busybox("sleep 600"))
			must(t, b.DestroyTask(task.ID, true)) // it is tried again at once
			b.nothingOf(task)
		})
	}
}

// A paused task stops as any other: it gets its signal, or is killed, whoever froze it and how deep below it.
func TestStopOfAFrozenTask(t *testing.T) {
	for _, below := range []bool{false, true} {
		for _, obeys := range []bool{true, false} {
			t.Run(fmt.Sprintf("below %v, obeys %v", below, obeys), func(t *testing.T) {
				b := launch(t)
				trap := "trap 'exit 5' TERM"
				if !obeys {
					trap = "trap '' TERM"
				}
				task, _ := b.start(busybox(trap + "; echo up; while true; do sleep 0.1; done"))
				must(t, task.Stdout.WaitFor("up\n", 10*time.Second))
				pid := b.inspectedPid(task)
				group := freezerOf(t, pid)
				if below {
					inner := filepath.Join(group, "inner")
					must(t, os.Mkdir(inner, 0o755))
					must(t, os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(pid), 0o644))
					group = inner
				}
				freeze(t, group)
				timeout := 10 * time.Second
				if !obeys {
					timeout = 300 * time.Millisecond
				}
				begin := time.Now()
				must(t, b.StopTask(task.ID, timeout, "SIGTERM"))
				if took := time.Since(begin); took > timeout+3*time.Second {
					t.Errorf("the stop took %s", took)
				}
				if result := b.wait(task); obeys && result.ExitCode != 5 || !obeys && result.Signal != 9 {
					t.Errorf("%+v", result)
				}
				must(t, b.DestroyTask(task.ID, false))
				b.nothingOf(task)
			})
		}
	}
}

// freezerOf is the folder of the process's cgroup in the hierarchy that freezes.
func freezerOf(t *testing.T, pid string) string {
	for _, line := range strings.Split(string(readFile("/proc/"+pid, "cgroup")), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) == 3 && fields[1] == "freezer" {
			return "/sys/fs/cgroup/freezer" + fields[2]
		}
	}
	for _, line := range strings.Split(string(readFile("/proc/"+pid, "cgroup")), "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return "/sys/fs/cgroup" + path
		}
	}
	t.Fatal("no cgroup that freezes")
	return ""
}

func freeze(t *testing.T, group string) {
	if _, err := os.Stat(filepath.Join(group, "freezer.state")); err == nil {
		must(t, os.WriteFile(filepath.Join(group, "freezer.state"), []byte("FROZEN"), 0o644))
		must(t, eventually(5*time.Second, func() error {
			if state := strings.TrimSpace(string(readFile(group, "freezer.state"))); state != "FROZEN" {
				return errors.New(state)
			}
			return nil
		}))
		return
	}
	must(t, os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte("1"), 0o644))
}

// DestroyTask that failed is repeated by the plugin itself: an agent gives up after a few calls.
func TestDestroyIsTriedAgain(t *testing.T) {
	b := launchWithFault(t, strings.Repeat("teardown.bundle:1*error(EIO),", 3))
	task, _ := b.start(busybox("sleep 600"))
	wantError(t, b.DestroyTask(task.ID, true), "injected at teardown.bundle")
	if entries, _ := os.ReadDir(filepath.Join(dataDir, "tasks")); len(entries) == 0 {
		t.Fatal("nothing was left to do")
	}
	b.housekeeping()
	must(t, eventually(45*time.Second, func() error {
		if entries, _ := os.ReadDir(filepath.Join(dataDir, "tasks")); len(entries) > 0 {
			return fmt.Errorf("still there: %v", entries)
		}
		return nil
	}))
	if _, err := b.InspectTask(task.ID); err == nil {
		t.Error("it is still known")
	}
}

// Plugin, shim and runtime are killed again and again at random moments of the life of 40 tasks, as an agent would go on
// after each: every task comes to run, and in the end nothing is left.
func TestManyKills(t *testing.T) {
	count, kills := 40, 60
	if *sanitized {
		count, kills = 8, 12
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	b := launch(t)
	tasks := make([]*Task, count)
	for i := range tasks {
		tasks[i] = b.task(busybox("echo up; exec sleep 600"))
	}
	for killed := 0; killed < kills; killed++ {
		answers := make(chan struct{})
		victim := random.Intn(3)
		some := random.Perm(count)[:8]
		go func() {
			defer close(answers)
			inParallel(len(some), 8, func(i int) { b.liveOn(tasks[some[i]], i) })
		}()
		time.Sleep(time.Duration(random.Intn(400)) * time.Millisecond)
		switch shims := b.shims(); {
		case victim == 0 || len(shims) == 0:
			must(t, b.KillNow())
		case victim == 1:
			kill9(shims[random.Intn(len(shims))])
		default:
			kill9(pidsOf(shims[random.Intn(len(shims))])...)
		}
		<-answers
		if b.client.Exited() {
			b.relaunch()
		}
	}
	inParallel(count, 8, func(i int) {
		for range 5 {
			_ = b.DestroyTask(tasks[i].ID, true)
			tasks[i] = b.again(tasks[i])
			if tasks[i].reopen() != nil {
				continue
			}
			if _, _, err := b.StartTask(tasks[i].TaskConfig); err == nil {
				return
			}
		}
		t.Errorf("task %d does not run any more", i)
	})
	for _, task := range tasks {
		must(t, b.DestroyTask(task.ID, true))
		b.nothingOf(task)
	}
}

// liveOn does what an agent may do next with a task; whatever the answer is, the agent goes on.
func (b *bench) liveOn(task *Task, turn int) {
	switch turn % 4 {
	case 0, 1:
		_ = task.reopen()
		_, _, _ = b.StartTask(task.TaskConfig)
	case 2:
		_, _ = b.ExecTask(task.ID, []string{"true"}, 5*time.Second)
		_ = b.StopTask(task.ID, 100*time.Millisecond, "SIGTERM")
	case 3:
		_ = b.DestroyTask(task.ID, true)
	}
}

// pidsOf are the children of a shim: the runtime that it runs, or the task.
func pidsOf(shim int) []int {
	var pids []int
	for _, word := range strings.Fields(string(readFile(fmt.Sprintf("/proc/%d/task/%d", shim, shim), "children"))) {
		pid, _ := strconv.Atoi(word)
		pids = append(pids, pid)
	}
	return pids
}
