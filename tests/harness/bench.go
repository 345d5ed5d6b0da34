package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// StartBench measures starts and stops of one plugin against `runc` on the same bundle, in turns, so that both see
// the same machine.
type StartBench struct {
	Plugin  *Plugin
	Dir     string
	Image   string
	Mark    string
	bundle  string
	samples map[string][]time.Duration
}

// The trap stands before the first output, for that is what a round waits for before it sends SIGTERM.
const benchCommand = "trap 'exit 0' TERM; echo up; sleep 100000 & wait"

// Run makes `rounds` starts each way, after a few that do not count.
func (b *StartBench) Run(rounds int) error {
	const warm = 3
	b.samples = map[string][]time.Duration{}
	model, err := b.model()
	if err != nil {
		return err
	}
	defer model.Remove()
	defer func() { _ = b.Plugin.DestroyTask(model.ID, true) }()
	for i := range rounds + warm {
		if i == warm {
			b.samples = map[string][]time.Duration{}
		}
		if err := b.ours(); err != nil {
			return fmt.Errorf("through the plugin: %w", err)
		}
		if err := b.runc(i); err != nil {
			return fmt.Errorf("through runc: %w", err)
		}
	}
	return nil
}

// Row is one line of the table: the median and the 95th percentile, and what they are measured against.
func (b *StartBench) Row(name, key, against string) string {
	p50, p95 := b.quantile(key, 0.5), b.quantile(key, 0.95)
	line := fmt.Sprintf("%-58s %9.2f %9.2f", name, ms(p50), ms(p95))
	if against != "" {
		base := b.quantile(against, 0.5)
		line += fmt.Sprintf(" %9.2f %8.2fx", ms(base), float64(p50)/float64(base))
	}
	return line
}

func (b *StartBench) quantile(key string, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(b.samples[key]))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (b *StartBench) add(key string, took time.Duration) {
	b.samples[key] = append(b.samples[key], took)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ours: StartTask, first byte, StopTask of a task that exits on SIGTERM, exit to WaitTask's answer. Then a start that asks
// the registry what a tag means now.
func (b *StartBench) ours() error {
	if err := b.round("missing", func(task *Task, begin, returned, first time.Time) error {
		b.add("start", returned.Sub(begin))
		b.add("first", max(0, first.Sub(returned)))
		b.add("start to first", first.Sub(begin))
		if err := b.imageStep(task); err != nil {
			return err
		}
		return b.stop(task)
	}); err != nil {
		return err
	}
	return b.round("always", func(task *Task, begin, returned, _ time.Time) error {
		b.add("start that asks", returned.Sub(begin))
		return b.Plugin.StopTask(task.ID, 10*time.Second, "")
	})
}

// imageStep is what a start with everything at hand spends on its image: looking it up, the overlay not counted, which
// runc's bundle has already. The plugin says it at debug level.
func (b *StartBench) imageStep(task *Task) error {
	var step struct {
		Task, Step string
		US         int64 `json:"us,string"`
	}
	for line := range strings.Lines(b.Plugin.Log.String()) {
		if json.Unmarshal([]byte(line), &step) == nil && step.Task == task.ID && step.Step == "image" {
			b.add("image", time.Duration(step.US)*time.Microsecond)
			return nil
		}
	}
	return fmt.Errorf("the plugin's log does not say what the image of %s took", task.ID)
}

// round starts a task, hands it with the times over, and destroys it.
func (b *StartBench) round(policy string, measure func(task *Task, begin, returned, first time.Time) error) error {
	task, err := b.newTask(policy)
	if err != nil {
		return err
	}
	defer task.Remove()
	defer func() { _ = b.Plugin.DestroyTask(task.ID, true) }() // for a round that fails
	begin := time.Now()
	if _, _, err = b.Plugin.StartTask(task.TaskConfig); err != nil {
		return err
	}
	returned := time.Now()
	first, err := task.Stdout.FirstByte(10 * time.Second)
	if err != nil {
		return err
	}
	if err := measure(task, begin, returned, first); err != nil {
		return err
	}
	begin = time.Now()
	err = b.Plugin.DestroyTask(task.ID, true)
	b.add("destroy", time.Since(begin))
	return err
}

func (b *StartBench) stop(task *Task) error {
	exited, err := exitOf(task.AllocID)
	if err != nil {
		return err
	}
	ctx, cancel := contextFor(30 * time.Second)
	defer cancel()
	results, err := b.Plugin.WaitTask(ctx, task.ID)
	if err != nil {
		return err
	}
	answered := make(chan time.Time, 1)
	go func() {
		<-results
		answered <- time.Now()
	}()
	begin := time.Now()
	if err := b.Plugin.StopTask(task.ID, 20*time.Second, ""); err != nil {
		return err
	}
	b.add("stop", time.Since(begin))
	b.add("exit to wait", max(0, (<-answered).Sub(<-exited)))
	return nil
}

func (b *StartBench) newTask(policy string) (*Task, error) {
	return b.Plugin.NewTask(b.Dir, newAllocID(b.Mark), map[string]any{
		"image": b.Image, "image_pull_policy": policy, "command": "/bin/sh", "args": []string{"-c", benchCommand}})
}

// model starts a task whose bundle and root file system runc then uses too.
func (b *StartBench) model() (*Task, error) {
	task, err := b.newTask("missing")
	if err != nil {
		return nil, err
	}
	if _, _, err := b.Plugin.StartTask(task.TaskConfig); err != nil {
		return nil, err
	}
	b.bundle = filepath.Join(b.Dir, "bundle")
	stateDir, _ := b.Plugin.Config["state_dir"].(string)
	return task, b.copyBundle(stateDir)
}

func (b *StartBench) copyBundle(stateDir string) error {
	var found string
	_ = filepath.WalkDir(stateDir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "config.json" {
			found = path
		}
		return nil
	})
	if found == "" {
		return fmt.Errorf("no config.json below %s", stateDir)
	}
	data, err := os.ReadFile(found)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	root := spec["root"].(map[string]any)
	if path := root["path"].(string); !filepath.IsAbs(path) {
		root["path"] = filepath.Join(filepath.Dir(found), path)
	}
	spec["linux"].(map[string]any)["cgroupsPath"] = "/" + b.Mark + "-runc"
	if err := os.MkdirAll(b.bundle, 0o755); err != nil {
		return err
	}
	data, err = json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.bundle, "config.json"), data, 0o644)
}

func (b *StartBench) runc(number int) error {
	id := fmt.Sprintf("%s-runc-%d", b.Mark, number)
	state := filepath.Join(b.Dir, "runc")
	fifo := filepath.Join(b.Dir, id+".fifo")
	out, err := openOutput(fifo)
	if err != nil {
		return err
	}
	defer os.Remove(fifo)
	defer out.close()
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	begin := time.Now()
	create := exec.Command("runc", "--root", state, "create", "--bundle", b.bundle, id)
	create.Stdout, create.Stderr = writer, writer
	err = create.Run()
	writer.Close()
	if err != nil {
		return fmt.Errorf("runc create: %w: %s", err, out)
	}
	if err := run("runc", "--root", state, "start", id); err != nil {
		return err
	}
	returned := time.Now()
	stopped := false
	defer func() {
		if !stopped {
			_ = run("runc", "--root", state, "delete", "--force", id)
		}
	}()
	first, err := out.FirstByte(10 * time.Second)
	if err != nil {
		return err
	}
	b.add("runc start", returned.Sub(begin))
	b.add("runc start to first", first.Sub(begin))

	pid, err := runcPid(state, id)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	begin = time.Now()
	if err := run("runc", "--root", state, "kill", id, "TERM"); err != nil {
		return err
	}
	if !waitReadable(fd, 10*time.Second) {
		return fmt.Errorf("pid %d does not exit on SIGTERM", pid)
	}
	if err := run("runc", "--root", state, "delete", id); err != nil {
		return err
	}
	stopped = true
	b.add("runc stop", time.Since(begin))
	return nil
}

func runcPid(state, id string) (int, error) {
	out, err := exec.Command("runc", "--root", state, "state", id).Output()
	if err != nil {
		return 0, fmt.Errorf("runc state: %w", err)
	}
	var status struct{ Pid int }
	err = json.Unmarshal(out, &status)
	return status.Pid, err
}

func run(command ...string) error {
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
	}
	return nil
}

// exitOf finds the init of an allocation's task and returns a channel with the time of its exit.
func exitOf(allocID string) (<-chan time.Time, error) {
	for _, line := range processes(nil, []string{"NOMAD_ALLOC_ID=" + allocID}) {
		var pid int
		if _, err := fmt.Sscanf(line, "process %d", &pid); err != nil {
			return nil, err
		}
		if namespacePid(string(readFile(fmt.Sprintf("/proc/%d", pid), "status"))) != "1" {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil, err
		}
		exited := make(chan time.Time, 1)
		go func() {
			waitReadable(fd, time.Minute)
			exited <- time.Now()
			unix.Close(fd)
		}()
		return exited, nil
	}
	return nil, errors.New("no init process of " + allocID)
}

func waitReadable(fd int, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for left := limit; left > 0; left = time.Until(deadline) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
	return false
}

// namespacePid is the pid in the innermost pid namespace: 1 for a container's init, "" for a process of the host.
func namespacePid(status string) string {
	for _, line := range strings.Split(status, "\n") {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			if fields := strings.Fields(rest); len(fields) > 1 {
				return fields[len(fields)-1]
			}
		}
	}
	return ""
}
