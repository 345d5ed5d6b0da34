package harness

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"
)

// counted is a text that says at each place where it is: a line that is repeated, and a check of what was read of it.
type counted struct {
	line []byte
	read int64
	bad  error
}

// newCounted's line is 100 KB: no pipe or buffer on the way is as long, so nothing is lost or doubled unseen.
func newCounted(mark string) *counted {
	var line bytes.Buffer
	for i := 0; line.Len() < 100_000; i++ {
		fmt.Fprintf(&line, "%s%d,", mark, i)
	}
	line.WriteByte('\n')
	return &counted{line: line.Bytes()}
}

func (c *counted) take(data []byte) {
	for len(data) > 0 && c.bad == nil {
		at := c.read % int64(len(c.line))
		n := min(len(data), len(c.line)-int(at))
		if !bytes.Equal(data[:n], c.line[at:int(at)+n]) {
			c.bad = fmt.Errorf("what was read from byte %d on is not what was written", c.read)
			return
		}
		c.read += int64(n)
		data = data[n:]
	}
}

// readFrom reads `path` until its end, or until `limit` bytes are read: as a log process that is killed does.
func (c *counted) readFrom(path string, limit int64) error {
	// Without O_NONBLOCK the open would wait for a writer that may be there already.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buffer := make([]byte, 64<<10)
	for limit > 0 && c.bad == nil {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 60_000); err == unix.EINTR {
			continue
		} else if err != nil || n == 0 {
			return fmt.Errorf("nothing to read after %d bytes: %v", c.read, err)
		}
		n, err := unix.Read(fd, buffer[:min(limit, int64(len(buffer)))])
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return c.bad
		}
		c.take(buffer[:n])
		limit -= int64(n)
	}
	return c.bad
}

// writer is a task that writes `bytes` of each text to stdout and stderr at once. Nobody reads its logs yet.
func (b *bench) writer(out, err *counted, outBytes, errBytes int64, change ...func(*drivers.TaskConfig)) *Task {
	b.t.Helper()
	task := b.task(map[string]any{"image": image("library/busybox:latest"), "command": "/bin/sh", "args": []string{"-c",
		fmt.Sprintf("cat > /dev/null; yes \"$(cat /local/err)\" | head -c %d >&2 & yes \"$(cat /local/out)\" | head -c %d; wait", errBytes, outBytes)}},
		change...)
	for name, text := range map[string]*counted{"out": out, "err": err} {
		must(b.t, os.WriteFile(task.AllocDir+"/"+task.Name+"/local/"+name, bytes.TrimSuffix(text.line, []byte("\n")), 0o644))
	}
	// The readers of the harness would keep what they read: a gibibyte.
	for path, output := range map[string]*Output{task.StdoutPath: task.Stdout, task.StderrPath: task.Stderr} {
		output.close()
		must(b.t, os.Remove(path))
		must(b.t, unix.Mkfifo(path, 0o600))
	}
	task.Stdout, task.Stderr = nil, nil
	return task
}

const gibibyte = 1 << 30

// A burst of a gibibyte arrives complete, and stderr beside it.
func TestLogsOfABurst(t *testing.T) {
	b := launch(t)
	out, err := newCounted("out"), newCounted("err")
	outBytes, errBytes := int64(gibibyte), int64(gibibyte/16)
	if *sanitized {
		outBytes, errBytes = outBytes/64, errBytes/64
	}
	task := b.writer(out, err, outBytes, errBytes)
	errors := make(chan error, 2)
	go func() { errors <- out.readFrom(task.StdoutPath, 2*gibibyte) }()
	go func() { errors <- err.readFrom(task.StderrPath, 2*gibibyte) }()
	_, _, startErr := b.StartTask(task.TaskConfig)
	must(t, startErr)
	if result, waitErr := b.waitFor(task.ID, 5*time.Minute); waitErr != nil || !result.Successful() {
		t.Errorf("%+v, %v", result, waitErr)
	}
	// The shim holds its ends until the task is destroyed.
	must(t, b.DestroyTask(task.ID, false))
	must(t, <-errors)
	must(t, <-errors)
	if out.read != outBytes || err.read != errBytes {
		t.Errorf("%d bytes of %d on stdout, %d of %d on stderr", out.read, outBytes, err.read, errBytes)
	}
}

// The log process is killed and started again, six times: what the killed one had not taken, the next one gets. The
// task starts while nobody reads, and does not notice anything.
func TestLogsOfAKilledReader(t *testing.T) {
	b := launch(t)
	out, err := newCounted("out"), newCounted("err")
	const outBytes, errBytes = 40_000_000, 300_000
	task := b.writer(out, err, outBytes, errBytes)
	begin := time.Now()
	_, _, startErr := b.StartTask(task.TaskConfig)
	must(t, startErr)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the start without a reader took %s", took)
	}
	for _, piece := range []int64{1, 65_536, 1_000_001, 3, 9_999_999} {
		must(t, out.readFrom(task.StdoutPath, piece))
		must(t, err.readFrom(task.StderrPath, piece/100+1))
	}
	status, inspectErr := b.InspectTask(task.ID)
	must(t, inspectErr)
	if status.State != drivers.TaskStateRunning {
		t.Fatalf("the task is %s, its logs have %d bytes to go", status.State, outBytes-out.read)
	}
	errors := make(chan error, 2)
	go func() { errors <- out.readFrom(task.StdoutPath, outBytes) }()
	go func() { errors <- err.readFrom(task.StderrPath, outBytes) }()
	if result := b.wait(task); !result.Successful() {
		t.Errorf("%+v", result)
	}
	must(t, b.DestroyTask(task.ID, false))
	must(t, <-errors)
	must(t, <-errors)
	if out.read != outBytes || err.read != errBytes {
		t.Errorf("%d bytes of %d on stdout, %d of %d on stderr", out.read, int64(outBytes), err.read, int64(errBytes))
	}
}

// Nobody reads, the plugin is killed and another one takes over: the task goes on where it was held up.
func TestLogsAcrossPlugins(t *testing.T) {
	b := launch(t)
	out, err := newCounted("out"), newCounted("err")
	const bytes = 5_000_000
	task := b.writer(out, err, bytes, bytes)
	handle, _, startErr := b.StartTask(task.TaskConfig)
	must(t, startErr)
	must(t, out.readFrom(task.StdoutPath, 10))
	must(t, b.KillNow())
	next, launchErr := Launch(*driverFlag, b.Config)
	must(t, launchErr)
	b.Plugin = next
	must(t, b.RecoverTask(handle))
	errors := make(chan error, 2)
	go func() { errors <- out.readFrom(task.StdoutPath, 2*bytes) }()
	go func() { errors <- err.readFrom(task.StderrPath, 2*bytes) }()
	if result := b.wait(task); !result.Successful() {
		t.Errorf("%+v", result)
	}
	must(t, b.DestroyTask(task.ID, false))
	must(t, <-errors)
	must(t, <-errors)
	if out.read != bytes || err.read != bytes {
		t.Errorf("%d and %d bytes of %d", out.read, err.read, int64(bytes))
	}
}

// Logs that nobody wants.
func TestLogsToNowhere(t *testing.T) {
	b := launch(t)
	nowhere := func(c *drivers.TaskConfig) { c.StdoutPath, c.StderrPath = "/dev/null", "/dev/null" }
	task := b.shell("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2", nil, nowhere)
	if result := b.wait(task); !result.Successful() {
		t.Errorf("%+v", result)
	}
}

// What is no log is refused: the shim, which is root, would write to it.
func TestLogsToOtherPlaces(t *testing.T) {
	b := launch(t)
	victim := b.dir + "/victim"
	must(t, os.WriteFile(victim, []byte("precious"), 0o644))
	link := b.dir + "/link"
	must(t, os.Symlink(victim, link))
	for path, want := range map[string]string{
		victim:             "is neither a FIFO nor /dev/null",
		link:               "is neither a FIFO nor /dev/null",
		b.dir:              "is neither a FIFO nor /dev/null",
		"/dev/zero":        "is neither a FIFO nor /dev/null",
		b.dir + "/no/such": "no/such",
	} {
		task := b.task(map[string]any{"image": image("library/busybox:latest"), "command": "echo", "args": []string{"overwritten"}})
		task.TaskConfig.StdoutPath = path
		_, _, err := b.StartTask(task.TaskConfig)
		wantError(t, err, want)
	}
	if text, err := os.ReadFile(victim); err != nil || strings.TrimSpace(string(text)) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
}
