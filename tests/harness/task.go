package harness

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/nomad/client/lib/cgroupslib"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"
)

// Task is a task's configuration with what an agent prepares for it: allocation folders and log FIFOs with a reader.
type Task struct {
	*drivers.TaskConfig
	Stdout *Output
	Stderr *Output
	root   string
}

// NewTask prepares a task below `base`. `config` is the job's driver config; `change` may edit the rest.
func (p *Plugin) NewTask(base, allocID string, config map[string]any, change ...func(*drivers.TaskConfig)) (*Task, error) {
	value, _, errs := hclutils.ParseHclInterface(config, p.taskSchema, nil)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	task := &Task{root: filepath.Join(base, allocID)}
	name := "web"
	task.TaskConfig = &drivers.TaskConfig{
		ID:            fmt.Sprintf("%s/%s/%s", allocID, name, randomHex(4)),
		Name:          name,
		JobName:       "job",
		JobID:         "job",
		TaskGroupName: "group",
		Namespace:     "default",
		NodeName:      "node",
		AllocID:       allocID,
		AllocDir:      task.root,
		StdoutPath:    filepath.Join(task.root, "alloc/logs/."+name+".stdout.fifo"),
		StderrPath:    filepath.Join(task.root, "alloc/logs/."+name+".stderr.fifo"),
		Env: map[string]string{
			"NOMAD_ALLOC_DIR":   "/alloc",
			"NOMAD_TASK_DIR":    "/local",
			"NOMAD_SECRETS_DIR": "/secrets",
			"NOMAD_ALLOC_ID":    allocID,
			"NOMAD_TASK_NAME":   name,
		},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{
				Cpu:    structs.AllocatedCpuResources{CpuShares: 500},
				Memory: structs.AllocatedMemoryResources{MemoryMB: 256},
			},
			LinuxResources: &drivers.LinuxResources{
				CPUShares:        500,
				MemoryLimitBytes: 256 << 20,
				PercentTicks:     0.1,
				CpusetCgroupPath: cgroupslib.LinuxResourcesPath(allocID, name, false),
			},
		},
	}
	if err := task.EncodeDriverConfig(value); err != nil {
		return nil, err
	}
	for _, edit := range change {
		edit(task.TaskConfig)
	}
	return task, task.prepare()
}

// Remove closes the logs and deletes the folders.
func (t *Task) Remove() {
	for _, output := range []*Output{t.Stdout, t.Stderr} {
		if output != nil {
			output.close()
		}
	}
	_ = os.RemoveAll(t.root)
}

func (t *Task) prepare() error {
	dirs := map[string]os.FileMode{
		"alloc/data": 0o777, "alloc/logs": 0o777, "alloc/tmp": 0o777,
		t.Name + "/local": 0o777, t.Name + "/secrets": 0o777, t.Name + "/private": 0o700, t.Name + "/tmp": 0o777,
	}
	for dir, mode := range dirs {
		path := filepath.Join(t.root, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	var err error
	if t.Stdout, err = openOutput(t.StdoutPath); err != nil {
		return err
	}
	t.Stderr, err = openOutput(t.StderrPath)
	return err
}

// reopen puts new readers on the logs, as a restarted log process does.
func (t *Task) reopen() error {
	for path, output := range map[string]**Output{t.StdoutPath: &t.Stdout, t.StderrPath: &t.Stderr} {
		(*output).close()
		if err := os.Remove(path); err != nil {
			return err
		}
		var err error
		if *output, err = openOutput(path); err != nil {
			return err
		}
	}
	return nil
}

// Output is what a task wrote to one FIFO, read as it comes, like the agent's log process does.
type Output struct {
	mutex sync.Mutex
	text  []byte
	first time.Time     // when the first byte was read
	ended chan struct{} // closed at the end of the stream
	stop  [2]int        // a pipe: closing it ends the reader
}

func openOutput(path string) (*Output, error) {
	o := &Output{ended: make(chan struct{})}
	if path == "/dev/null" {
		close(o.ended)
		return o, unix.Pipe2(o.stop[:], unix.O_CLOEXEC)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("mkfifo %s: %w", path, err)
	}
	// Without O_NONBLOCK the open would wait for the writer; the poll below does not need it.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Pipe2(o.stop[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	go o.read(fd)
	return o, nil
}

func (o *Output) read(fd int) {
	defer close(o.ended)
	defer unix.Close(fd)
	buffer := make([]byte, 64<<10)
	for {
		// No POLLHUP before the first writer came, so this waits for it too.
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(o.stop[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil {
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			return
		}
		n, err := unix.Read(fd, buffer)
		if errors.Is(err, syscall.EAGAIN) && fds[1].Revents == 0 {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		o.mutex.Lock()
		if len(o.text) == 0 {
			o.first = time.Now()
		}
		o.text = append(o.text, buffer[:n]...)
		o.mutex.Unlock()
	}
}

func (o *Output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return string(o.text)
}

// FirstByte waits for output and tells when it came.
func (o *Output) FirstByte(limit time.Duration) (time.Time, error) {
	var first time.Time
	err := eventually(limit, func() error {
		o.mutex.Lock()
		defer o.mutex.Unlock()
		if first = o.first; first.IsZero() {
			return errors.New("no output")
		}
		return nil
	})
	return first, err
}

// WaitFor waits until the output contains `text`.
func (o *Output) WaitFor(text string, limit time.Duration) error {
	return eventually(limit, func() error {
		if got := o.String(); !strings.Contains(got, text) {
			return fmt.Errorf("output has no %q; it is %q", text, got)
		}
		return nil
	})
}

// All waits for the end of the stream and returns everything.
func (o *Output) All(limit time.Duration) (string, error) {
	select {
	case <-o.ended:
		return o.String(), nil
	case <-time.After(limit * patience):
		return o.String(), errors.New("a writer still holds the log FIFO")
	}
}

func (o *Output) close() {
	unix.Close(o.stop[1])
	<-o.ended
	unix.Close(o.stop[0])
}

// newAllocID looks like an agent's, with a mark by which everything that belongs to this run can be found.
func newAllocID(mark string) string {
	return fmt.Sprintf("%s-%s-%s-%s-%s", mark, randomHex(2), randomHex(2), randomHex(2), randomHex(6))
}

func randomHex(bytes int) string {
	data := make([]byte, bytes)
	if _, err := rand.Read(data); err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", data)
}

func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
