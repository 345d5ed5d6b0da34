package harness

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

var (
	repoFlag   = flag.String("repo", repository(), "the source tree: its registry script and, by default, its build")
	driverFlag = flag.String("driver", "", "the binary to test (default: build/src/containerd-driver of the source tree)")
	cyclesFlag = flag.Int("cycles", 200, "start/stop cycles of TestCycles")
	netFlag    = flag.Int("network-cycles", 28, "cycles of TestNetworkFaultCycles: 28 are a fault of each kind at each call")
	benchFlag  = flag.Int("bench", 0, "measure this many starts instead of testing, and print a table")
	manyFlag   = flag.Int("bench-many", 0, "measure a plugin with this many tasks instead of testing")
	crowdFlag  = flag.Int("bench-crowd", 0, "measure this many starts, a hundred at once, instead of testing")
	faultsFlag = flag.Bool("faults", false, "the binary is built with -Dfaults=true: run the tests that inject faults, too")
	sanitized  = flag.Bool("sanitized", false, "the binary is a sanitizer build: no limits on memory and time")
)

// What all tests share: images of one registry, pulled into one store.
var (
	registry string
	dataDir  string
	baseDir  string // everything of this run is below it
	mark     string // and every allocation id begins with it
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *driverFlag == "" {
		*driverFlag = filepath.Join(*repoFlag, "build/src/containerd-driver")
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	mark = randomHex(4)
	var err error
	if baseDir, err = os.MkdirTemp("", "cd-harness-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(baseDir)
	dataDir = filepath.Join(baseDir, "data")
	address, stop, err := startRegistry(*repoFlag)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	registry = address
	if *benchFlag > 0 {
		if err := benchStart(*benchFlag); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if *manyFlag > 0 {
		if err := benchMany(*manyFlag); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if *crowdFlag > 0 {
		if err := benchCrowd(*crowdFlag); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return m.Run()
}

func image(name string) string { return registry + "/" + name }

func pluginConfig(stateDir string) map[string]any {
	return map[string]any{
		"enabled":            true,
		"containerd_runtime": "io.containerd.runc.v2",
		"data_dir":           dataDir,
		"state_dir":          stateDir,
	}
}

// bench is one plugin for one test, with the test's own state folder and a check that nothing is left behind.
type bench struct {
	*Plugin
	t        *testing.T
	dir      string
	stateDir string
}

func launch(t *testing.T, options ...map[string]any) *bench {
	t.Helper()
	return launchCommand(t, func(*exec.Cmd) {}, options...)
}

// launchCommand is launch of a command that `prepare` may change.
func launchCommand(t *testing.T, prepare func(*exec.Cmd), options ...map[string]any) *bench {
	t.Helper()
	b := &bench{t: t, dir: filepath.Join(baseDir, randomHex(4))}
	b.stateDir = filepath.Join(b.dir, "run")
	must(t, os.MkdirAll(b.dir, 0o755))
	config := pluginConfig(b.stateDir)
	for _, more := range options {
		for key, value := range more {
			config[key] = value
		}
	}
	var err error
	b.Plugin, err = Launch(*driverFlag, config, prepare)
	must(t, err)
	t.Cleanup(b.finish)
	return b
}

// finish ends the plugin and fails the test if anything of it is left. Processes may need a moment to be reaped.
func (b *bench) finish() {
	if b.t.Failed() {
		b.t.Logf("log of the plugin:\n%s", b.Log)
	}
	b.Close()
	err := eventually(5*time.Second, func() error {
		if left := Leftovers([]int{b.Pid}, b.dir, mark); len(left) > 0 {
			return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		}
		return nil
	})
	if err != nil {
		b.t.Error(err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dataDir, "tasks")); len(entries) > 0 {
		b.t.Errorf("left behind in %s/tasks: %v", dataDir, entries)
	}
	_ = os.RemoveAll(b.dir)
}

// task prepares a task with driver config `config`, destroyed at the end of the test.
func (b *bench) task(config map[string]any, change ...func(*drivers.TaskConfig)) *Task {
	b.t.Helper()
	task, err := b.NewTask(b.dir, newAllocID(mark), config, change...)
	must(b.t, err)
	b.t.Cleanup(func() {
		begin := time.Now()
		_ = b.DestroyTask(task.ID, true)
		if took := time.Since(begin); took > 5*time.Second {
			b.t.Logf("DestroyTask(%s) took %s; log of the plugin:\n%s", task.ID, took, b.Log)
		}
		task.Remove()
	})
	return task
}

// start prepares and starts a task.
func (b *bench) start(config map[string]any, change ...func(*drivers.TaskConfig)) (*Task, *drivers.TaskHandle) {
	b.t.Helper()
	task := b.task(config, change...)
	handle, _, err := b.StartTask(task.TaskConfig)
	must(b.t, err)
	return task, handle
}

// shell starts a task that runs a line of shell in busybox.
func (b *bench) shell(line string, more map[string]any, change ...func(*drivers.TaskConfig)) *Task {
	b.t.Helper()
	config := map[string]any{"image": image("library/busybox:latest"), "command": "/bin/sh", "args": []string{"-c", line}}
	for key, value := range more {
		config[key] = value
	}
	task, _ := b.start(config, change...)
	return task
}

// output runs a line of shell to its end and returns what it wrote; its exit code must be 0.
func (b *bench) output(line string, more map[string]any, change ...func(*drivers.TaskConfig)) string {
	b.t.Helper()
	task := b.shell(line, more, change...)
	result := b.wait(task)
	out, err := task.Stdout.All(5 * time.Second)
	must(b.t, err)
	if !result.Successful() {
		b.t.Fatalf("%q: %+v\nstdout: %s\nstderr: %s", line, result, out, task.Stderr)
	}
	return out
}

func (b *bench) wait(task *Task) *drivers.ExitResult {
	b.t.Helper()
	result, err := b.waitFor(task.ID, 30*time.Second)
	must(b.t, err)
	// What it wrote last may still be on its way to our readers; whom it left its output to may never end it.
	for _, output := range []*Output{task.Stdout, task.Stderr} {
		if output == nil {
			continue // a reader of the test's own
		}
		select {
		case <-output.ended:
		case <-time.After(2 * time.Second):
		}
	}
	return result
}

func (b *bench) waitFor(id string, limit time.Duration) (*drivers.ExitResult, error) {
	ctx, cancel := contextFor(limit)
	defer cancel()
	channel, err := b.WaitTask(ctx, id)
	if err != nil {
		return nil, err
	}
	result := <-channel
	if result == nil {
		return nil, fmt.Errorf("WaitTask(%s) has no answer after %s", id, limit)
	}
	if result.Err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("WaitTask(%s) has no answer after %s: %w", id, limit, result.Err)
	}
	return result, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not contain %q", err, word)
		}
	}
}

func wantText(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in: %s", word, text)
		}
	}
}
