package harness

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// The named points of StartTask, in order. A build with -Dfaults=true can be made to fail or die at each of them.
var startPoints = []string{
	"start.claimed", "start.recorded", "start.image", "start.prepared", "start.spawned", "start.shim", "start.rootfs", "start.staged",
	"start.volumes", "start.etc", "start.bundle", "start.ready", "start.stdio", "start.created", "start.unstaged", "start.noted",
	"start.started", "start.running",
}

// launchWithFault starts a plugin that does `fault` once; tests with it need -faults.
func launchWithFault(t *testing.T, fault string) *bench {
	t.Helper()
	if !*faultsFlag {
		t.Skip("needs a binary built with -Dfaults=true, and -faults")
	}
	return launchCommand(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "FAULT="+fault) })
}

func busybox(line string) map[string]any {
	return map[string]any{"image": image("library/busybox:latest"), "command": "/bin/sh", "args": []string{"-c", line}}
}

// An error at any step: the answer names it and asks for a retry, nothing is left, and the retry works.
func TestErrorAtEveryStep(t *testing.T) {
	for _, point := range startPoints {
		t.Run(point, func(t *testing.T) {
			b := launchWithFault(t, point+":1*error(ENOSPC)")
			task := b.task(busybox("echo fine"))
			_, _, err := b.StartTask(task.TaskConfig)
			wantError(t, err, "injected at "+point)
			if !recoverable(err) {
				t.Errorf("no retry after %v", err)
			}
			b.nothingOf(task)
			must(t, task.reopen())
			_, _, err = b.StartTask(task.TaskConfig)
			must(t, err)
			if result := b.wait(task); !result.Successful() {
				t.Errorf("the retry: %+v", result)
			}
			wantText(t, task.Stdout.String(), "fine")
		})
	}
}

// kill -9 at any step. The agent may repeat the call, ask for the task back, or have given up on it: whichever it is,
// the task runs at most once, and nothing is left.
func TestKillAtEveryStep(t *testing.T) {
	for _, point := range startPoints {
		if point == "start.running" {
			continue // it is through: TestKillOfAStartThatIsThrough
		}
		die := func(t *testing.T) (*bench, *Task) {
			b := launchWithFault(t, point+":1*kill")
			task := b.task(busybox("echo started; sleep 600"))
			if _, _, err := b.StartTask(task.TaskConfig); err == nil {
				t.Fatal("the plugin was to die")
			}
			must(t, b.waitGone())
			b.relaunch()
			must(t, task.reopen()) // the log's reader ended with the first shim
			return b, task
		}
		t.Run(point+"/repeated", func(t *testing.T) {
			b, task := die(t)
			_, _, err := b.StartTask(task.TaskConfig)
			must(t, err)
			must(t, task.Stdout.WaitFor("started\n", 10*time.Second))
			if count := len(inits(task)); count != 1 {
				t.Errorf("the task runs %d times", count)
			}
		})
		t.Run(point+"/asked for", func(t *testing.T) {
			b, task := die(t)
			handle := drivers.NewTaskHandle(1)
			handle.Config = task.TaskConfig
			if err := b.RecoverTask(stored(handle)); err == nil {
				t.Error("half a start was recovered")
			}
			must(t, b.DestroyTask(task.ID, true))
			again := b.again(task)
			_, _, err := b.StartTask(again.TaskConfig)
			must(t, err)
			must(t, again.Stdout.WaitFor("started\n", 10*time.Second))
			if count := len(inits(task)); count != 1 {
				t.Errorf("the task runs %d times", count)
			}
			must(t, b.DestroyTask(again.ID, true))
		})
		t.Run(point+"/given up", func(t *testing.T) {
			b, task := die(t)
			must(t, b.DestroyTask(task.ID, true))
			b.nothingOf(task)
		})
	}
}

// kill -9 when the record says that the task runs: the answer is lost, the task is not.
func TestKillOfAStartThatIsThrough(t *testing.T) {
	for name, ask := range map[string]func(b *bench, task *Task) error{
		"repeated": func(b *bench, task *Task) error {
			_, _, err := b.StartTask(task.TaskConfig)
			return err
		},
		"asked for": func(b *bench, task *Task) error {
			handle := drivers.NewTaskHandle(1)
			handle.Config = task.TaskConfig
			return b.RecoverTask(stored(handle))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := launchWithFault(t, "start.running:1*kill")
			task := b.task(busybox("sleep 600"))
			if _, _, err := b.StartTask(task.TaskConfig); err == nil {
				t.Fatal("the plugin was to die")
			}
			must(t, b.waitGone())
			before := inits(task)
			b.relaunch()
			must(t, ask(b, task))
			if now := inits(task); len(now) != 1 || !slices.Equal(now, before) {
				t.Errorf("before %v, now %v", before, now)
			}
			must(t, b.DestroyTask(task.ID, true))
		})
	}
}

// kill -9 between the steps of an undoing: what is left of the task is removed by the next call.
func TestKillWhileDestroying(t *testing.T) {
	b := launchWithFault(t, "teardown.trashed:1*kill")
	task, _ := b.start(busybox("sleep 600"))
	if err := b.DestroyTask(task.ID, true); err == nil {
		t.Fatal("the plugin was to die")
	}
	must(t, b.waitGone())
	b.relaunch()
	must(t, b.DestroyTask(task.ID, true))
}

// kill -9 while the image comes: its helper ends as well, and the repeated start gets the image.
func TestKillWhilePulling(t *testing.T) {
	slow := newSlowRegistry(t)
	store := t.TempDir() // an empty one, so that there is something to fetch
	b := launch(t, map[string]any{"data_dir": store})
	task := b.task(map[string]any{"image": slow.address + "/library/lazy:latest", "command": "/bin/echo", "args": []string{"fine"}})
	answer := make(chan error, 1)
	go func() {
		_, _, err := b.StartTask(task.TaskConfig)
		answer <- err
	}()
	slow.waitStalled()
	must(t, b.KillNow())
	if err := <-answer; err == nil {
		t.Error("a killed plugin answered")
	}
	must(t, eventually(10*time.Second, func() error {
		if left := processes(map[int]bool{}, []string{store, b.dir}); len(left) > 0 {
			return fmt.Errorf("still running: %v", left)
		}
		return nil
	}))
	b.relaunch()
	slow.release()
	_, _, err := b.StartTask(task.TaskConfig)
	must(t, err)
	if result := b.wait(task); !result.Successful() {
		t.Errorf("%+v", result)
	}
	wantText(t, task.Stdout.String(), "fine")
}

// A task that is stopped or destroyed while its image comes is not waited for.
func TestStopWhilePulling(t *testing.T) {
	slow := newSlowRegistry(t)
	b := launch(t, map[string]any{"data_dir": t.TempDir()})
	task := b.task(map[string]any{"image": slow.address + "/library/lazier:latest", "command": "/bin/echo"})
	answer := make(chan error, 1)
	go func() {
		_, _, err := b.StartTask(task.TaskConfig)
		answer <- err
	}()
	slow.waitStalled()
	must(t, b.StopTask(task.ID, 10*time.Second, ""))
	select {
	case err := <-answer:
		wantError(t, err, "lazier")
	case <-time.After(60 * time.Second):
		t.Error("the start goes on")
	}
}

// A task that is destroyed while it starts: when the answer comes, nothing of it is left, and the name is free.
func TestDestroyWhileStarting(t *testing.T) {
	for _, point := range startPoints {
		t.Run(point, func(t *testing.T) {
			b := launchWithFault(t, point+":1*delay(700)")
			task := b.task(busybox("exec sleep 600"))
			answer := make(chan error, 1)
			go func() {
				_, _, err := b.StartTask(task.TaskConfig)
				answer <- err
			}()
			must(t, eventually(5*time.Second, func() error {
				if entries, _ := os.ReadDir(filepath.Join(dataDir, "tasks")); len(entries) == 0 {
					return errors.New("the start has not begun")
				}
				return nil
			}))
			must(t, b.DestroyTask(task.ID, true))
			if _, err := b.InspectTask(task.ID); err == nil {
				t.Error("the task is still known")
			}
			b.nothingOf(task)
			<-answer // an error, or OK if the start was through already
			again := b.again(task)
			must(t, again.reopen())
			_, _, err := b.StartTask(again.TaskConfig)
			must(t, err)
			must(t, b.DestroyTask(again.ID, true))
		})
	}
}

// kill -9 while a stop waits for the task: the repeated stop ends it.
func TestKillWhileStopping(t *testing.T) {
	b := launch(t)
	task, handle := b.start(busybox("trap 'echo got TERM' TERM; echo ready; while true; do sleep 0.1; done"))
	must(t, task.Stdout.WaitFor("ready\n", 10*time.Second))
	go func() { _ = b.StopTask(task.ID, time.Minute, "SIGTERM") }()
	must(t, task.Stdout.WaitFor("got TERM\n", 10*time.Second))
	must(t, b.KillNow())
	b.relaunch()
	must(t, b.RecoverTask(stored(handle)))
	must(t, b.StopTask(task.ID, 100*time.Millisecond, "SIGTERM"))
	if result := b.wait(task); result.Signal != 9 || result.ExitCode != 137 {
		t.Errorf("%+v", result)
	}
}

// kill -9 with 100 tasks: all come back with the same pids.
func TestKillWith100Tasks(t *testing.T) {
	count := 100
	if *sanitized {
		count = 10
	}
	b := launch(t)
	handles := make([]*drivers.TaskHandle, count)
	pids := make([]string, count)
	tasks := make([]*Task, count)
	for i := range tasks {
		tasks[i] = b.task(busybox("exec sleep 600"))
	}
	inParallel(count, 8, func(i int) {
		handle, _, err := b.StartTask(tasks[i].TaskConfig)
		if err != nil {
			t.Error(err)
			return
		}
		handles[i] = handle
	})
	if t.Failed() {
		return
	}
	for i, task := range tasks {
		pids[i] = b.inspectedPid(task)
	}
	must(t, b.KillNow())
	b.relaunch()
	begin := time.Now()
	inParallel(count, 100, func(i int) {
		if err := b.RecoverTask(stored(handles[i])); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d tasks recovered in %s", count, time.Since(begin))
	for i, task := range tasks {
		info, err := b.InspectTask(task.ID)
		must(t, err)
		if info.State != drivers.TaskStateRunning {
			t.Errorf("task %d is %s", i, info.State)
		}
		if now := b.inspectedPid(task); now != pids[i] {
			t.Errorf("task %d had pid %s, now %s", i, pids[i], now)
		}
	}
	inParallel(count, 50, func(i int) {
		if err := b.DestroyTask(tasks[i].ID, true); err != nil {
			t.Error(err)
		}
	})
}

// A repeated StartTask of a task that has ended is answered with that task: it must not run twice.
func TestStartOfAnEndedTask(t *testing.T) {
	b := launch(t)
	task, _ := b.start(busybox("echo once; exit 7"))
	if result := b.wait(task); result.ExitCode != 7 {
		t.Errorf("%+v", result)
	}
	check := func() {
		_, _, err := b.StartTask(task.TaskConfig)
		must(t, err)
		if result := b.wait(task); result.ExitCode != 7 {
			t.Errorf("%+v", result)
		}
		if got := task.Stdout.String(); got != "once\n" {
			t.Errorf("it ran again: %q", got)
		}
	}
	check()
	must(t, b.KillNow())
	b.relaunch()
	check()
}

// Of two calls at once for one id one starts the task, and the other is told so or given the same task.
func TestTwoStartsAtOnce(t *testing.T) {
	b := launch(t)
	task := b.task(busybox("echo once; sleep 600"))
	var wait sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wait.Add(1)
		go func() {
			defer wait.Done()
			_, _, errs[i] = b.StartTask(task.TaskConfig)
		}()
	}
	wait.Wait()
	started := 0
	for _, err := range errs {
		if err == nil {
			started++
		} else {
			wantError(t, err, "is being started")
		}
	}
	if started == 0 {
		t.Error("nobody started it")
	}
	must(t, task.Stdout.WaitFor("once\n", 10*time.Second))
	if count := len(inits(task)); count != 1 {
		t.Errorf("the task runs %d times", count)
	}
}

// inspectedPid is the pid that the driver tells, checked to be the task's: looking through all processes takes long.
func (b *bench) inspectedPid(task *Task) string {
	b.t.Helper()
	status, err := b.InspectTask(task.ID)
	must(b.t, err)
	pid := status.DriverAttributes["pid"]
	// runc start returns before the process has become the task's program.
	must(b.t, eventually(10*time.Second, func() error {
		if environ := string(readFile("/proc/"+pid, "environ")); !strings.Contains(environ, "NOMAD_ALLOC_ID="+task.AllocID) {
			return fmt.Errorf("pid %q is not the task's", pid)
		}
		return nil
	}))
	return pid
}

// nothingOf checks that nothing of the task is left; processes may need a moment to be reaped.
func (b *bench) nothingOf(task *Task) {
	b.t.Helper()
	must(b.t, eventually(5*time.Second, func() error {
		if left := Leftovers([]int{b.Pid}, task.AllocID); len(left) > 0 {
			return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		}
		return nil
	}))
}

// again is the task's next invocation: same allocation, same name, new id.
func (b *bench) again(task *Task) *Task {
	next := task.TaskConfig.Copy()
	next.ID = fmt.Sprintf("%s/%s/%s", next.AllocID, next.Name, randomHex(4))
	return &Task{TaskConfig: next, Stdout: task.Stdout, Stderr: task.Stderr, root: task.root}
}

func (b *bench) waitGone() error {
	return eventually(10*time.Second, func() error {
		if !b.client.Exited() {
			return errors.New("the plugin lives")
		}
		return nil
	})
}

// inits are the task's processes that are pid 1 of a namespace.
func inits(task *Task) []string {
	var found []string
	for _, line := range processes(nil, []string{"NOMAD_ALLOC_ID=" + task.AllocID}) {
		pid := strings.Fields(line)[1]
		if namespacePid(string(readFile("/proc/"+pid, "status"))) == "1" {
			found = append(found, pid)
		}
	}
	return found
}

func recoverable(err error) bool {
	var e interface{ IsRecoverable() bool }
	return errors.As(err, &e) && e.IsRecoverable()
}

func inParallel(count, workers int, work func(i int)) {
	var wait sync.WaitGroup
	next := make(chan int)
	for range workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range next {
				work(i)
			}
		}()
	}
	for i := range count {
		next <- i
	}
	close(next)
	wait.Wait()
}

// slowRegistry serves the registry's busybox under any name, and stalls in the middle of each large blob.
type slowRegistry struct {
	address string
	t       *testing.T
	stalled chan struct{}
	gate    chan struct{}
	once    sync.Once
}

func newSlowRegistry(t *testing.T) *slowRegistry {
	slow := &slowRegistry{t: t, stalled: make(chan struct{}, 100), gate: make(chan struct{})}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	proxy.ModifyResponse = func(response *http.Response) error {
		if strings.Contains(response.Request.URL.Path, "/blobs/") && response.ContentLength > 64<<10 {
			response.Body = &stallingBody{ReadCloser: response.Body, slow: slow, left: response.ContentLength / 2}
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/v2/"), "/", 3)
		if len(parts) == 3 {
			r.URL.Path = "/v2/library/busybox/" + parts[2]
		}
		proxy.ServeHTTP(w, r)
	}))
	slow.address = strings.TrimPrefix(server.URL, "http://")
	t.Cleanup(func() {
		slow.release()
		server.CloseClientConnections()
		server.Close()
	})
	return slow
}

// waitStalled returns when a download stands still.
func (s *slowRegistry) waitStalled() {
	s.t.Helper()
	select {
	case <-s.stalled:
	case <-time.After(60 * time.Second):
		s.t.Fatal("no download")
	}
}

func (s *slowRegistry) release() { s.once.Do(func() { close(s.gate) }) }

type stallingBody struct {
	io.ReadCloser
	slow *slowRegistry
	left int64
}

func (b *stallingBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		select {
		case <-b.slow.gate:
			return b.ReadCloser.Read(p)
		default:
		}
		b.slow.stalled <- struct{}{}
		<-b.slow.gate
		return b.ReadCloser.Read(p)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// The agent resets its streams at any time: none of them may leave anything behind.
func TestCancelledStreams(t *testing.T) {
	b := launch(t)
	task, _ := b.start(busybox("exec sleep 600"))
	open := func(limit time.Duration) {
		ctx, cancel := contextFor(limit)
		defer cancel()
		_, _ = b.WaitTask(ctx, task.ID) // an error if it is cancelled before it is sent
		_, _ = b.TaskStats(ctx, task.ID, 100*time.Millisecond)
		_, _ = b.TaskEvents(ctx)
		_, _ = b.Fingerprint(ctx)
		<-ctx.Done()
	}
	open(200 * time.Millisecond)
	var before Usage
	must(t, eventually(5*time.Second, func() error { // threads that wait for more work end
		if before = b.Usage(); before.Threads > 8 {
			return fmt.Errorf("%d threads", before.Threads)
		}
		return nil
	}))
	inParallel(100, 10, func(i int) { open(time.Duration(i) * time.Millisecond / 4) })
	must(t, eventually(10*time.Second, func() error {
		after := b.Usage()
		if after.FDs > before.FDs+1 || after.Threads > before.Threads+4 {
			return fmt.Errorf("before: %+v, after: %+v", before, after)
		}
		if !*sanitized && after.RSS > before.RSS+2<<10 {
			return fmt.Errorf("before: %+v, after: %+v", before, after)
		}
		return nil
	}))
	if _, err := b.InspectTask(task.ID); err != nil {
		t.Error(err)
	}
}
