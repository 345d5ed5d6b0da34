package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/proto"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// session is one ExecTaskStreaming call through Nomad's own client, as the agent makes it.
type session struct {
	ctx    context.Context
	cancel context.CancelFunc
	input  chan *drivers.ExecTaskStreamingRequestMsg
	slow   chan struct{} // if not nil: each message of output is taken when somebody asks for it

	mutex  sync.Mutex
	stdout bytes.Buffer
	stderr bytes.Buffer
	order  []string // what came besides output: "stdout closed", "stderr closed", "exited"
	result *proto.ExitResult

	done chan struct{}
	err  error
}

func (b *bench) exec(task *Task, tty bool, command ...string) *session {
	return b.begin(task.ID, tty, nil, command...)
}

func (b *bench) begin(id string, tty bool, slow chan struct{}, command ...string) *session {
	s := &session{input: make(chan *drivers.ExecTaskStreamingRequestMsg), slow: slow, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	b.t.Cleanup(func() {
		s.cancel()
		<-s.done
	})
	driver := b.DriverPlugin.(drivers.ExecTaskStreamingRawDriver)
	go func() {
		defer close(s.done)
		s.err = driver.ExecTaskStreamingRaw(s.ctx, id, command, tty, s)
	}()
	return s
}

// Recv is what the agent's user sends.
func (s *session) Recv() (*drivers.ExecTaskStreamingRequestMsg, error) {
	select {
	case message := <-s.input:
		return message, nil
	case <-s.done:
	case <-s.ctx.Done():
	}
	return nil, io.EOF
}

// Send is what the agent's user gets.
func (s *session) Send(message *drivers.ExecTaskStreamingResponseMsg) error {
	if s.slow != nil && len(message.Stdout.GetData()) > 0 {
		select {
		case <-s.slow:
		case <-s.ctx.Done():
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.order) > 0 && len(message.Stdout.GetData())+len(message.Stderr.GetData()) > 0 {
		s.order = append(s.order, "output after "+s.order[len(s.order)-1])
	}
	s.stdout.Write(message.Stdout.GetData())
	s.stderr.Write(message.Stderr.GetData())
	if message.Stdout.GetClose() {
		s.order = append(s.order, "stdout closed")
	}
	if message.Stderr.GetClose() {
		s.order = append(s.order, "stderr closed")
	}
	if message.Exited {
		s.order = append(s.order, "exited")
		s.result = message.Result
	}
	return nil
}

// send passes a message on, if the command still runs.
func (s *session) send(message *drivers.ExecTaskStreamingRequestMsg) bool {
	select {
	case s.input <- message:
		return true
	case <-s.done:
		return false
	}
}

func (s *session) write(data string) bool {
	return s.send(&drivers.ExecTaskStreamingRequestMsg{Stdin: &proto.ExecTaskStreamingIOOperation{Data: []byte(data)}})
}

func (s *session) closeStdin() {
	s.send(&drivers.ExecTaskStreamingRequestMsg{Stdin: &proto.ExecTaskStreamingIOOperation{Close: true}})
}

func (s *session) resize(height, width int32) {
	s.send(&drivers.ExecTaskStreamingRequestMsg{
		TtySize: &proto.ExecTaskStreamingRequest_TerminalSize{Height: height, Width: width}})
}

func (s *session) heartbeat() { s.send(&drivers.ExecTaskStreamingRequestMsg{}) }

func (s *session) out() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.stdout.String()
}

func (s *session) waitFor(t *testing.T, text string) {
	t.Helper()
	must(t, eventually(20*time.Second, func() error {
		if got := s.out(); !strings.Contains(got, text) {
			return fmt.Errorf("the command's output has no %q: %q", text, got)
		}
		return nil
	}))
}

// end waits for an orderly end.
func (s *session) end(t *testing.T) *proto.ExitResult {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(60 * time.Second):
		t.Fatalf("the command does not end; so far: %.1000q", s.out())
	}
	must(t, s.err)
	if got := strings.Join(s.order, ", "); got != "stdout closed, stderr closed, exited" || s.result == nil {
		t.Fatalf("the command's end is %q, result %v", got, s.result)
	}
	return s.result
}

// execFiles are what commands leave in the bundle of `task` while they exist.
func (b *bench) execFiles() []string {
	found, _ := filepath.Glob(filepath.Join(b.stateDir, "bundles/*/exec*"))
	return found
}

// noExecs waits until nothing of any command is left: no FIFO, no pid file, and no process with `marks`.
func (b *bench) noExecs(limit time.Duration, marks ...string) {
	b.t.Helper()
	must(b.t, eventually(limit, func() error {
		for _, mark := range marks {
			if pids := running(mark); len(pids) > 0 {
				return fmt.Errorf("processes with %q still run: %v", mark, pids)
			}
		}
		if files := b.execFiles(); len(files) > 0 {
			return fmt.Errorf("still there: %v", files)
		}
		return nil
	}))
}

// running are the processes whose command line contains `text`.
func running(text string) []string {
	var found []string
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, entry := range entries {
		line, err := os.ReadFile(entry)
		if err == nil && strings.Contains(strings.ReplaceAll(string(line), "\x00", " "), text) {
			found = append(found, filepath.Base(filepath.Dir(entry)))
		}
	}
	return found
}

func (b *bench) sleeper() *Task {
	return b.shell("exec sleep 100000", nil)
}

func TestExecTask(t *testing.T) {
	b := launch(t)
	task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "cwd": "/tmp"})
	result, err := b.ExecTask(task.ID, []string{"/bin/sh", "-c", "pwd; echo err >&2; exit 5"}, 10*time.Second)
	must(t, err)
	if string(result.Stdout) != "/tmp\n" || string(result.Stderr) != "err\n" || result.ExitResult.ExitCode != 5 {
		t.Errorf("stdout %q, stderr %q, %+v", result.Stdout, result.Stderr, result.ExitResult)
	}

	// What is too much is cut, and does not block the command.
	result, err = b.ExecTask(task.ID, []string{"sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x; exit 7"}, 20*time.Second)
	must(t, err)
	if string(result.Stdout) != strings.Repeat("x", 4096) || result.ExitResult.ExitCode != 7 {
		t.Errorf("%d bytes of stdout, %+v", len(result.Stdout), result.ExitResult)
	}

	// stdin is empty, not closed and not ours.
	result, err = b.ExecTask(task.ID, []string{"sh", "-c", "cat; readlink /proc/self/fd/0"}, 10*time.Second)
	must(t, err)
	if string(result.Stdout) != "/dev/null\n" {
		t.Errorf("stdin is %q", result.Stdout)
	}

	// By a signal, as shells say it.
	result, err = b.ExecTask(task.ID, []string{"sh", "-c", "kill -TERM $$"}, 10*time.Second)
	must(t, err)
	if result.ExitResult.ExitCode != 143 || result.ExitResult.Signal != 15 {
		t.Errorf("killed by SIGTERM: %+v", result.ExitResult)
	}
	b.noExecs(10 * time.Second)
}

func TestExecTaskTimeout(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	for _, command := range [][]string{
		{"sleep", "71101"},
		{"sh", "-c", "sleep 71101 & sleep 71101"},
		{"sh", "-c", "trap '' TERM HUP INT; while true; do sleep 71101; done"},
	} {
		_, err := b.ExecTask(task.ID, command, 300*time.Millisecond)
		wantError(t, err, command[0]+" did not end within 0.3 s and was killed")
		if got := status.Code(err); got != codes.DeadlineExceeded {
			t.Errorf("%q ends with %v", command, got)
		}
		b.noExecs(10*time.Second, "sleep 71101")
	}

	// A process left behind holds the output, but not the result.
	result, err := b.ExecTask(task.ID, []string{"sh", "-c", "sleep 71102 & echo done; exit 4"}, 60*time.Second)
	must(t, err)
	if string(result.Stdout) != "done\n" || result.ExitResult.ExitCode != 4 {
		t.Errorf("%q, %+v", result.Stdout, result.ExitResult)
	}
}

func TestExecCannotRun(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	for command, want := range map[string]struct {
		code int
		text string
	}{
		"/no/such/command": {127, "no such file or directory"},
		"nosuchcommand":    {127, `exec: "nosuchcommand": executable file not found in $PATH`},
		"/etc/passwd":      {126, "permission denied"},
		"/etc":             {126, "/etc"},
	} {
		result, err := b.ExecTask(task.ID, []string{command}, 10*time.Second)
		must(t, err)
		if result.ExitResult.ExitCode != want.code || !strings.Contains(string(result.Stderr), want.text) {
			t.Errorf("ExecTask %s: %+v, %q", command, result.ExitResult, result.Stderr)
		}
		for _, tty := range []bool{false, true} {
			s := b.exec(task, tty, command)
			result := s.end(t)
			said := s.stderr.String()
			if tty {
				said = s.out()
			}
			if int(result.ExitCode) != want.code || !strings.Contains(said, want.text) || strings.Contains(said, "OCI runtime") {
				t.Errorf("%s (tty: %v): %+v, %q", command, tty, result, said)
			}
		}
	}
	for name, command := range map[string][]string{"nothing": {}, "an empty word": {""}} {
		_, err := b.ExecTask(task.ID, command, time.Second)
		wantError(t, err, "no command")
		s := b.exec(task, false, command...)
		<-s.done
		if s.err == nil {
			t.Errorf("%s was run: %+v", name, s.result)
		}
	}
	s := b.begin("no/such/task", false, nil, "true")
	<-s.done
	wantError(t, s.err, "task not found")
	b.noExecs(10 * time.Second)
}

// Not more than the task has, and not less.
func TestExecIsLikeTheTask(t *testing.T) {
	b := launch(t)
	const look = "id; pwd; grep -E '^(Cap|Seccomp|NoNewPrivs)' /proc/self/status; ulimit -Hn; cat /proc/self/oom_score_adj; " +
		"grep -v cpuset /proc/self/cgroup; for i in /proc/self/ns/*; do readlink $i; done; echo $PATH $GREETING $NOMAD_TASK_NAME"
	task := b.shell("("+look+"); echo ready; exec sleep 100000", map[string]any{"cwd": "/tmp", "cap_drop": []string{"chown"}},
		func(c *drivers.TaskConfig) {
			c.User = "nobody"
			c.Env["GREETING"] = "hello"
		})
	must(t, task.Stdout.WaitFor("ready\n", 10*time.Second))
	want := strings.TrimSuffix(task.Stdout.String(), "ready\n")
	result, err := b.ExecTask(task.ID, []string{"sh", "-c", look}, 10*time.Second)
	must(t, err)
	if got := string(result.Stdout); got != want || !strings.Contains(got, "(nobody)") || !strings.Contains(got, "hello web") {
		t.Errorf("the task:\n%s\nits exec:\n%s%s", want, got, result.Stderr)
	}
	for _, tty := range []bool{false, true} {
		s := b.exec(task, tty, "sh", "-c", look)
		s.end(t)
		if got := strings.ReplaceAll(s.out(), "\r\n", "\n"); got != want {
			t.Errorf("the task:\n%s\nits exec (tty: %v):\n%s", want, tty, got)
		}
	}

	// The host's view: the command is in the task's cgroup of each hierarchy.
	s := b.exec(task, false, "sh", "-c", "echo up; sleep 71103")
	s.waitFor(t, "up")
	cgroup := func(pid string) string {
		text, err := os.ReadFile("/proc/" + pid + "/cgroup")
		must(t, err)
		return string(text)
	}
	// The cpuset is the agent's, where it is moved right after its start.
	must(t, eventually(10*time.Second, func() error {
		if init, exec := cgroup(running("sleep 100000")[0]), cgroup(running("sleep 71103")[0]); init != exec {
			return fmt.Errorf("the task is in\n%s\nits exec in\n%s", init, exec)
		}
		return nil
	}))
}

func TestExecStdin(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	// Each byte arrives, whatever is in it, and the end does.
	sent := make([]byte, 3<<20)
	for i := range sent {
		sent[i] = byte(i * 7 / 3)
	}
	s := b.exec(task, false, "cat")
	for at := 0; at < len(sent); at += 50_000 {
		s.write(string(sent[at:min(at+50_000, len(sent))]))
		s.heartbeat()
	}
	s.closeStdin()
	if result := s.end(t); result.ExitCode != 0 || s.out() != string(sent) {
		t.Errorf("%d bytes of %d came back, %+v", len(s.out()), len(sent), result)
	}

	// An end at once, after nothing and after little; many times, as this is a race with the start.
	for i := range 20 {
		s := b.exec(task, false, "wc", "-c")
		if i%2 == 1 {
			s.write("12345")
		}
		s.closeStdin()
		result := s.end(t)
		if got, want := strings.TrimSpace(s.out()), fmt.Sprint(5*(i%2)); got != want || result.ExitCode != 0 {
			t.Fatalf("round %d: %q instead of %q, %+v", i, got, want, result)
		}
	}

	// A command that does not want it ends as it wants. (Little enough for the pipes: the shim holds on to the other end,
	// so nobody learns that the command has closed its own.)
	s = b.exec(task, false, "sh", "-c", "exec <&-; echo closed; while ! test -e /tmp/go; do sleep 0.01; done; exit 9")
	s.waitFor(t, "closed")
	for range 20 {
		s.write(strings.Repeat("x", 1000))
	}
	s.heartbeat()
	_, err := b.ExecTask(task.ID, []string{"touch", "/tmp/go"}, 10*time.Second)
	must(t, err)
	if result := s.end(t); result.ExitCode != 9 {
		t.Errorf("%+v", result)
	}
	// One that never reads it does not make the plugin hold it: we are stopped, at the latest by the window.
	s = b.exec(task, false, "sh", "-c", "echo up; exec sleep 71104")
	s.waitFor(t, "up")
	before := residentBytes(t, b.Pid)
	go func() {
		for s.write(strings.Repeat("x", 1<<20)) {
		}
	}()
	for range 5 {
		result, err := b.ExecTask(task.ID, []string{"echo", "well"}, 10*time.Second)
		must(t, err)
		if string(result.Stdout) != "well\n" {
			t.Errorf("%q", result.Stdout)
		}
	}
	if grown := residentBytes(t, b.Pid) - before; grown > 16<<20 && !*sanitized {
		t.Errorf("the plugin holds %d MiB for a command that does not read", grown>>20)
	}
	s.cancel()
	<-s.done
	b.noExecs(10*time.Second, "sleep 71104")
}

func TestExecTerminal(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	s := b.exec(task, true, "/bin/sh")
	s.resize(33, 77)
	say := func(line string) { s.write(line + "\n") }
	// Echo is on, so what is waited for must not be what is typed.
	say("stty size | sed 's/^/size /'; echo TERM is $TERM; test -t 0 && test -t 1 && test -t 2 && echo a''ll terminals")
	s.waitFor(t, "all terminals")
	s.waitFor(t, "TERM is xterm")
	must(t, eventually(10*time.Second, func() error {
		say("stty size | sed 's/^/size /'")
		if !strings.Contains(s.out(), "size 33 77") {
			return errors.New("the first size did not arrive: " + s.out())
		}
		return nil
	}))
	s.resize(44, 88)
	s.resize(0, -5) // nonsense is ignored
	must(t, eventually(10*time.Second, func() error {
		say("stty size | sed 's/^/size /'")
		if !strings.Contains(s.out(), "size 44 88") {
			return errors.New("the second size did not arrive: " + s.out())
		}
		return nil
	}))
	// ^C is for the foreground, not for the shell.
	say("echo r''eady; sleep 71105")
	s.waitFor(t, "ready")
	must(t, eventually(10*time.Second, func() error {
		if len(running("sleep 71105")) == 0 {
			return errors.New("no sleep")
		}
		return nil
	}))
	s.write("\x03")
	say("echo code $?; exit 6")
	s.waitFor(t, "code 130")
	if result := s.end(t); result.ExitCode != 6 || s.stderr.Len() != 0 {
		t.Errorf("%+v, stderr %q", result, s.stderr.String())
	}
	b.noExecs(10*time.Second, "sleep 71105")
}

// ^D ends a terminal's input.
func TestExecTerminalEndOfFile(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	s := b.exec(task, true, "cat")
	s.write("line\n\x04")
	if result := s.end(t); result.ExitCode != 0 || s.out() != "line\r\nline\r\n" {
		t.Errorf("%+v, %q", result, s.out())
	}
}

// 64 interactive commands at once on one task, each with its own input and its own code.
func TestExec64AtOnce(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	const many = 64
	sessions := make([]*session, many)
	for i := range sessions {
		sessions[i] = b.exec(task, i%2 == 0, "sh", "-c", "read line; echo got $line; exit $line")
	}
	for i, s := range sessions {
		s.write(fmt.Sprintf("%d\n", i))
	}
	for i, s := range sessions {
		if result := s.end(t); int(result.ExitCode) != i || !strings.Contains(s.out(), fmt.Sprintf("got %d", i)) {
			t.Errorf("command %d: %+v, %q", i, result, s.out())
		}
	}
	b.noExecs(20 * time.Second)
}

// Whoever asked is gone: the command and its children are, within a second.
func TestExecCancelled(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	for name, line := range map[string]string{
		"plain":      "echo up; exec sleep 71106",
		"children":   "sleep 71106 & (sleep 71106 & sleep 71106) & echo up; wait",
		"stubborn":   "trap '' TERM HUP INT QUIT PIPE; echo up; while true; do sleep 71106; done",
		"noisy":      "echo up; sleep 71106 & while true; do echo noise; done",
		"own groups": "set -m; sleep 71106 & sleep 71106 & echo up; wait",
		"sessions":   "setsid sleep 71106 & setsid setsid sleep 71106 & echo up; wait",
		"detached":   "(setsid sleep 71106 &); echo up; exec sleep 71106",
	} {
		for _, tty := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tty %v", name, tty), func(t *testing.T) {
				s := b.exec(task, tty, "sh", "-c", line)
				s.waitFor(t, "up")
				begin := time.Now()
				s.cancel()
				<-s.done
				b.noExecs(10*time.Second, "sleep 71106")
				if took := time.Since(begin); took > time.Second && !*sanitized {
					t.Errorf("the command was gone after %s", took)
				}
			})
		}
	}
	// Its first process has ended, and another one has its output.
	s := b.exec(task, false, "sh", "-c", "(setsid sleep 71106 &); echo up; read line")
	s.waitFor(t, "up")
	s.write("\n")
	must(t, eventually(10*time.Second, func() error {
		if pids := running("71106"); len(pids) != 1 {
			return fmt.Errorf("%d processes run", len(pids))
		}
		return nil
	}))
	s.cancel()
	<-s.done
	b.noExecs(10*time.Second, "sleep 71106")
	// A daemon that has let go of everything is as little the caller's as one that a shell leaves behind.
	s = b.exec(task, false, "sh", "-c", "(setsid sleep 71109 < /dev/null > /dev/null 2>&1 &); echo up; exec sleep 71106")
	s.waitFor(t, "up")
	daemon := func() error { // has become its program, in its own session
		for _, pid := range running("sleep 71109") {
			if strings.HasPrefix(string(readFile("/proc/"+pid, "cmdline")), "sleep\x00") {
				return nil
			}
		}
		return errors.New("no daemon runs")
	}
	must(t, eventually(10*time.Second, daemon))
	s.cancel()
	<-s.done
	b.noExecs(10*time.Second, "sleep 71106")
	must(t, daemon())
	// While it starts: nothing comes of it.
	for i := range 10 {
		s := b.exec(task, false, "sleep", "71106")
		time.Sleep(time.Duration(i) * 6 * time.Millisecond) // somewhere in the 50 ms of a start
		s.cancel()
		<-s.done
	}
	b.noExecs(10*time.Second, "sleep 71106")
	if len(running("sleep 100000")) == 0 {
		t.Error("the task itself is gone")
	}
}

// A client that does not read holds up the command, not the plugin's memory, and no other command.
func TestExecSlowReader(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	before := residentBytes(t, b.Pid)
	slow := make(chan struct{})
	s := b.begin(task.ID, false, slow, "sh", "-c", "head -c 100000000 /dev/zero; exit 3")
	slow <- struct{}{}
	// The windows and pipes between it and us are full now or soon; the others do not care.
	for range 5 {
		result, err := b.ExecTask(task.ID, []string{"echo", "well"}, 10*time.Second)
		must(t, err)
		if string(result.Stdout) != "well\n" {
			t.Errorf("%q", result.Stdout)
		}
	}
	if grown := residentBytes(t, b.Pid) - before; grown > 16<<20 && !*sanitized {
		t.Errorf("the plugin holds %d MiB for a client that does not read", grown>>20)
	}
	close(slow)
	if result := s.end(t); result.ExitCode != 3 || len(s.out()) != 100000000 {
		t.Errorf("%d bytes, %+v", len(s.out()), result)
	}
}

func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	must(t, err)
	var total, resident int64
	_, err = fmt.Sscan(string(text), &total, &resident)
	must(t, err)
	return resident * int64(os.Getpagesize())
}

// The task ends under its commands, and there are none for one that has ended.
func TestExecWhileTheTaskEnds(t *testing.T) {
	b := launch(t)
	task := b.sleeper()
	var sessions []*session
	for range 8 {
		s := b.exec(task, false, "sh", "-c", "echo up; sleep 71107")
		s.waitFor(t, "up")
		sessions = append(sessions, s)
	}
	stopped := make(chan error)
	go func() { stopped <- b.StopTask(task.ID, 0, "SIGKILL") }()
	var late []*session
	for range 30 {
		late = append(late, b.exec(task, false, "sleep", "71107"))
	}
	must(t, <-stopped)
	for _, s := range sessions {
		if result := s.end(t); result.ExitCode != 137 {
			t.Errorf("a command of a task that was killed: %+v", result)
		}
	}
	for _, s := range late {
		<-s.done
		if s.err != nil && status.Code(s.err) != codes.FailedPrecondition && status.Code(s.err) != codes.Aborted {
			t.Errorf("%v", s.err)
		}
		if s.err == nil && s.result.ExitCode == 0 {
			t.Errorf("a command that was killed is a success: %+v", s.result)
		}
	}
	_, err := b.ExecTask(task.ID, []string{"true"}, time.Second)
	wantError(t, err, "the task is not running")
	b.noExecs(10*time.Second, "sleep 71107")
}

// The plugin is killed while commands run: the next one clears them away, and theirs alone.
func TestExecPluginKilled(t *testing.T) {
	b := launch(t)
	task, handle := b.start(map[string]any{"image": image("library/busybox:latest"), "command": "sleep", "args": []string{"100000"}})
	for _, tty := range []bool{false, true} {
		s := b.exec(task, tty, "sh", "-c", "(setsid sleep 71108 &); sleep 71108 & echo up; while true; do echo noise; sleep 0.001; done")
		s.waitFor(t, "up")
	}
	b.exec(task, false, "cat")
	must(t, b.KillNow())
	if len(running("sleep 71108")) == 0 || len(b.execFiles()) == 0 {
		t.Fatal("nothing was left to clear away")
	}
	next, err := Launch(*driverFlag, b.Config)
	must(t, err)
	b.Plugin = next
	must(t, b.RecoverTask(handle))
	b.noExecs(20*time.Second, "sleep 71108")
	if len(running("sleep 100000")) == 0 {
		t.Error("the task itself is gone")
	}
	result, err := b.ExecTask(task.ID, []string{"echo", "on"}, 10*time.Second)
	must(t, err)
	if string(result.Stdout) != "on\n" {
		t.Errorf("%q", result.Stdout)
	}
}

// Commands of one process are none of another's business, even if that takes the same task over.
func TestExecOfAnotherProcess(t *testing.T) {
	b := launch(t)
	task, handle := b.start(map[string]any{"image": image("library/busybox:latest"), "command": "sleep", "args": []string{"100000"}})
	s := b.exec(task, false, "sh", "-c", "echo up; read line; echo got $line")
	s.waitFor(t, "up")
	other, err := Launch(*driverFlag, b.Config)
	must(t, err)
	must(t, other.RecoverTask(handle))
	result, err := other.ExecTask(task.ID, []string{"echo", "other"}, 10*time.Second)
	must(t, err)
	if string(result.Stdout) != "other\n" {
		t.Errorf("%q", result.Stdout)
	}
	s.write("it\n")
	if result := s.end(t); result.ExitCode != 0 || !strings.Contains(s.out(), "got it") {
		t.Errorf("%+v, %q", result, s.out())
	}
	other.Close()
}

// Every signal that a program can catch, by number and by name; what names none is refused, and 0 is none.
func TestSignalEvery(t *testing.T) {
	b := launch(t)
	// Not those that cannot be caught (9, 19), that children cause (17), that the shell's libc keeps (32, 33), or that
	// its own jobs are about (21, 22).
	task := b.shell("for i in $(seq 1 64); do case $i in 9|17|19|21|22|32|33) ;; *) trap \"echo got $i.\" $i ;; esac; done; "+
		"echo ready; while true; do sleep 1000 & wait $!; done", nil)
	must(t, task.Stdout.WaitFor("ready", 10*time.Second))
	send := func(name string, number int) {
		t.Helper()
		before := len(task.Stdout.String())
		must(t, b.SignalTask(task.ID, name))
		must(t, eventually(10*time.Second, func() error {
			if got := task.Stdout.String()[before:]; !strings.Contains(got, fmt.Sprintf("got %d.\n", number)) {
				return fmt.Errorf("%s: the task says %q", name, got)
			}
			return nil
		}))
	}
	for number := 1; number <= 64; number++ {
		switch number {
		case 9, 17, 19, 21, 22, 32, 33:
		default:
			send(fmt.Sprint(number), number)
		}
	}
	for name, number := range map[string]int{"SIGHUP": 1, "hup": 1, "SigUsr1": 10, "USR2": 12, "SIGTERM": 15, "SIGWINCH": 28,
		"SIGPWR": 30, "SIGSYS": 31, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "RTMIN+15": 49, "SIGRTMAX-1": 63, "SIGRTMAX": 64} {
		send(name, number)
	}
	for _, name := range []string{"", "0", "65", "-1", "15x", "SIG", "SIGNONE", "SIGRTMIN+99", "SIGRTMAX+1", "15 "} {
		wantError(t, b.SignalTask(task.ID, name), "Invalid signal: "+name)
	}
	must(t, b.SignalTask(task.ID, "KILL"))
	if result := b.wait(task); result.ExitCode != 137 || result.Signal != 9 {
		t.Errorf("%+v", result)
	}
}
