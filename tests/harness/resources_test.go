package harness

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// eventLog collects a plugin's task events.
type eventLog struct {
	syncBuffer
}

func (b *bench) events() *eventLog {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.t.Cleanup(cancel)
	channel, err := b.TaskEvents(ctx)
	must(b.t, err)
	log := &eventLog{}
	go func() {
		for event := range channel {
			if event.Err == nil {
				fmt.Fprintf(log, "%s %s: %s %v\n", event.AllocID, event.TaskName, event.Message, event.Annotations)
			}
		}
	}()
	return log
}

// of waits for an event of `task` that contains `text`, and returns all of the task's.
func (l *eventLog) of(task *Task, text string) (string, error) {
	var mine string
	err := eventually(10*time.Second, func() error {
		mine = ""
		for _, line := range strings.SplitAfter(l.String(), "\n") {
			if strings.HasPrefix(line, task.AllocID+" "+task.Name+": ") {
				mine += line
			}
		}
		if !strings.Contains(mine, text) {
			return fmt.Errorf("no event has %q; there are: %q", text, mine)
		}
		return nil
	})
	return mine, err
}

func TestOutOfMemory(t *testing.T) {
	b := launch(t)
	log := b.events()

	t.Run("the main process", func(t *testing.T) {
		// exec: without it the shell would be the main process and report 137 of its child.
		task := b.shell("exec tail -c 400000000 /dev/zero", nil)
		result := b.wait(task)
		if !result.OOMKilled || result.ExitCode != 137 || result.Signal != 9 {
			t.Errorf("%+v", result)
		}
		events, err := log.of(task, "OOM killed: memory limit 256 MiB, peak 256 MiB, victim pid ")
		must(t, err)
		wantText(t, events, "(tail), kills 1", "oom_kills:1")
	})

	t.Run("a child, and the task goes on", func(t *testing.T) {
		task := b.shell("tail -c 400000000 /dev/zero; echo child: $?; trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done", nil)
		must(t, task.Stdout.WaitFor("child: 137", 20*time.Second))
		_, err := log.of(task, "(tail), kills 1") // told while it runs
		must(t, err)
		must(t, b.StopTask(task.ID, 10*time.Second, ""))
		if result := b.wait(task); !result.OOMKilled || result.ExitCode != 0 || result.Err != nil {
			t.Errorf("%+v", result)
		}
	})

	t.Run("many: the first and the sum", func(t *testing.T) {
		task := b.shell("for i in 1 2 3 4 5; do tail -c 400000000 /dev/zero; done; exit 3", nil)
		if result := b.wait(task); !result.OOMKilled || result.ExitCode != 3 || result.Signal != 0 {
			t.Errorf("%+v", result)
		}
		events, err := log.of(task, "kills 5")
		must(t, err)
		if told := strings.Count(events, "OOM killed"); told > 2 {
			t.Errorf("%d events: %s", told, events)
		}
	})

	t.Run("SIGKILL by somebody is no OOM", func(t *testing.T) {
		task := b.shell("echo up; exec sleep 1000", nil)
		must(t, task.Stdout.WaitFor("up", 10*time.Second))
		must(t, b.SignalTask(task.ID, "SIGKILL"))
		if result := b.wait(task); result.OOMKilled || result.Signal != 9 {
			t.Errorf("%+v", result)
		}
	})
}

func TestExitBySignal(t *testing.T) {
	b := launch(t)
	for name, number := range map[string]int{"SEGV": 11, "ABRT": 6, "KILL": 9} {
		// In a child: only SIGKILL and SIGSTOP from outside end a container's init that has no handler for them.
		task := b.shell(fmt.Sprintf("sh -c 'kill -%s $$'; exit $?", name), nil)
		if result := b.wait(task); result.Signal != number || result.ExitCode != 128+number || result.OOMKilled {
			t.Errorf("SIG%s: %+v", name, result)
		}
	}
}

func TestStopThatNeedsForce(t *testing.T) {
	b := launch(t)
	log := b.events()
	task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "args": []string{"ignore"}})
	must(t, task.Stdout.WaitFor("ignoring", 10*time.Second))
	must(t, b.StopTask(task.ID, 300*time.Millisecond, "SIGINT"))
	_, err := log.of(task, "Still running 0.3 s after SIGINT, sending SIGKILL")
	must(t, err)

	gentle, _ := b.start(map[string]any{"image": image("library/probe:latest")})
	must(t, gentle.Stdout.WaitFor("started", 10*time.Second))
	must(t, b.StopTask(gentle.ID, 10*time.Second, ""))
	if events, _ := log.of(gentle, ""); strings.Contains(events, "SIGKILL") {
		t.Errorf("an event without a reason: %s", events)
	}
}

// All at once, as when a node is drained: nothing stays, and nothing waits for its turn for long (the bench measures it).
func TestStopFiftyAtOnce(t *testing.T) {
	count := 50
	if *sanitized {
		count = 5
	}
	b := launch(t)
	tasks := make([]*Task, count)
	for i := range tasks {
		tasks[i] = b.task(map[string]any{"image": image("library/probe:latest")})
	}
	inParallel(count, 8, func(i int) {
		if _, _, err := b.StartTask(tasks[i].TaskConfig); err != nil {
			t.Error(err)
			return
		}
		if err := tasks[i].Stdout.WaitFor("started", 20*time.Second); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		return
	}
	begin := time.Now()
	inParallel(count, count, func(i int) {
		if err := b.StopTask(tasks[i].ID, 10*time.Second, ""); err != nil {
			t.Error(err)
		}
		if err := b.DestroyTask(tasks[i].ID, false); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d tasks stopped and destroyed in %s", count, time.Since(begin))
	if left := Leftovers([]int{b.Pid}, mark); len(left) > 0 {
		t.Errorf("left behind when the last DestroyTask returns: %q", left)
	}
}

func TestDestroyTwice(t *testing.T) {
	b := launch(t)
	task := b.shell("exec sleep 1000", nil)
	must(t, b.DestroyTask(task.ID, true))
	for _, force := range []bool{true, false} {
		if err := b.DestroyTask(task.ID, force); err != nil && !strings.Contains(err.Error(), "task not found") {
			t.Errorf("destroy again, force %v: %v", force, err)
		}
	}
}

// cgroupDir is where a task's files of one v1 controller are, or of v2.
func cgroupDir(t *testing.T, pid, controller string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/" + pid + "/cgroup")
	must(t, err)
	unified := ""
	for _, line := range strings.Split(string(data), "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) == 3 && parts[1] == controller {
			return filepath.Join("/sys/fs/cgroup", controller, parts[2])
		}
		if len(parts) == 3 && parts[1] == "" {
			unified = filepath.Join("/sys/fs/cgroup", parts[2])
		}
	}
	return unified
}

func (b *bench) cgroupFile(task *Task, v1Controller, v1, v2 string) string {
	b.t.Helper()
	dir := cgroupDir(b.t, b.inspectedPid(task), v1Controller)
	name := v2
	if strings.HasPrefix(dir, "/sys/fs/cgroup/"+v1Controller+"/") {
		name = v1
	}
	return string(readFile(dir, name))
}

func TestMemoryLimits(t *testing.T) {
	b := launch(t)
	const unlimited = "9223372036854771712 max"
	for name, test := range map[string]struct {
		memory, limit int64 // MiB, MiB of memory_max or -1
		want          string
	}{
		"memory":        {64, 0, "67108864"},
		"memory_max":    {32, 96, "100663296"},
		"memory_max -1": {32, -1, unlimited},
	} {
		t.Run(name, func(t *testing.T) {
			task := b.shell("echo up; exec sleep 1000", nil, func(config *drivers.TaskConfig) {
				config.Resources.NomadResources.Memory.MemoryMB = test.memory
				config.Resources.NomadResources.Memory.MemoryMaxMB = test.limit
				config.Resources.LinuxResources.MemoryLimitBytes = max(test.memory, test.limit) << 20
			})
			got := b.cgroupFile(task, "memory", "memory.limit_in_bytes", "memory.max")
			if !strings.Contains(test.want, got) || got == "" {
				t.Errorf("limit %q, want %q", got, test.want)
			}
			if test.limit != 0 {
				if got := b.cgroupFile(task, "memory", "memory.soft_limit_in_bytes", "memory.low"); got != "33554432" {
					t.Errorf("reservation %q", got)
				}
			}
		})
	}
}

func TestSharesAndPids(t *testing.T) {
	b := launch(t)
	task := b.shell("echo up; exec sleep 1000", map[string]any{"pids_limit": 17}, func(config *drivers.TaskConfig) {
		config.Resources.NomadResources.Cpu.CpuShares = 700
		config.Resources.LinuxResources.CPUShares = 700
	})
	if got := b.cgroupFile(task, "cpu", "cpu.shares", "cpu.weight"); got != "700" && got != "28" {
		t.Errorf("shares %q", got)
	}
	if got := b.cgroupFile(task, "pids", "pids.max", "pids.max"); got != "17" {
		t.Errorf("pids.max %q", got)
	}
}

// The task's cgroup is where the agent looks for it: on v1 the path that it kills by, and its own cpuset.
func TestCgroupIsNomads(t *testing.T) {
	b := launch(t)
	task := b.shell("echo up; exec sleep 1000", nil)
	info, err := b.InspectTask(task.ID)
	must(t, err)
	want := "/nomad/" + task.AllocID + "." + task.Name
	if v2, ok := strings.CutPrefix(task.Resources.LinuxResources.CpusetCgroupPath, "/sys/fs/cgroup/nomad.slice"); ok {
		want = "/nomad.slice" + v2
	}
	if got := info.DriverAttributes["cgroup"]; got != want {
		t.Errorf("cgroup %q, want %q", got, want)
	}
	if dir := cgroupDir(t, info.DriverAttributes["pid"], "freezer"); !strings.HasSuffix(dir, want) {
		t.Errorf("the process is in %s, not in %s", dir, want)
	}
	for _, key := range []string{"image", "image_digest", "runtime", "shim_pid", "seccomp", "container_id"} {
		if info.DriverAttributes[key] == "" {
			t.Errorf("InspectTask has no attribute %q: %v", key, info.DriverAttributes)
		}
	}
}

// On v1 the agent keeps cpusets of its own. This test plays the agent, in groups that a real one does not know.
func TestCpusetOfTheAgent(t *testing.T) {
	root := "/sys/fs/cgroup/cpuset"
	if _, err := os.Stat(filepath.Join(root, "cpuset.cpus")); err != nil {
		t.Skip("no cgroup v1 cpuset hierarchy")
	}
	parent := filepath.Join(root, "cd-agent-"+randomHex(4)) // without the mark: it is not the plugin's to remove
	group := func(path, cpus string) string {
		must(t, os.Mkdir(path, 0o755))
		t.Cleanup(func() {
			if err := eventually(5*time.Second, func() error { return os.Remove(path) }); err != nil {
				t.Error(err)
			}
		})
		must(t, os.WriteFile(path+"/cpuset.mems", readFile(root, "cpuset.mems"), 0))
		if cpus != "" {
			must(t, os.WriteFile(path+"/cpuset.cpus", []byte(cpus), 0))
		}
		return path
	}
	group(parent, string(readFile(root, "cpuset.cpus")))
	share, reserved := group(parent+"/share", "0"), group(parent+"/reserved", "")

	const line = "grep Cpus_allowed_list /proc/self/status; echo up; exec sleep 1000"
	for name, test := range map[string]struct{ path, cores, before, after string }{
		"shared":   {share, "", "0", "0-1"},
		"reserved": {reserved, "1", "1", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := launch(t)
			task := b.shell(line, nil, func(config *drivers.TaskConfig) {
				config.Resources.LinuxResources.CpusetCgroupPath = test.path
				config.Resources.LinuxResources.CpusetCpus = test.cores
			})
			must(t, task.Stdout.WaitFor("up", 10*time.Second))
			allowed := func() string {
				for _, line := range strings.Split(string(readFile("/proc/"+b.inspectedPid(task), "status")), "\n") {
					if rest, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
						return strings.TrimSpace(rest)
					}
				}
				return ""
			}
			if got := allowed(); got != test.before {
				t.Errorf("the task may use %q, want %q", got, test.before)
			}
			if got := cgroupDir(t, b.inspectedPid(task), "cpuset"); got != test.path {
				t.Errorf("its cpuset is %s, want %s", got, test.path)
			}
			if name == "shared" { // the agent changes the set while the task runs
				must(t, os.WriteFile(share+"/cpuset.cpus", []byte(test.after), 0))
				defer func() { must(t, os.WriteFile(share+"/cpuset.cpus", []byte("0"), 0)) }()
			}
			if got := allowed(); got != test.after {
				t.Errorf("later the task may use %q, want %q", got, test.after)
			}
			result, err := b.ExecTask(task.ID, []string{"sh", "-c", "sleep 0.3; cat /proc/self/cgroup"}, 10*time.Second)
			must(t, err)
			wantText(t, string(result.Stdout), ":cpuset:")
			must(t, b.DestroyTask(task.ID, true))
			if _, err := os.Stat(test.path); err != nil {
				t.Errorf("the agent's group is gone: %v", err)
			}
		})
	}
}

// usedCPU is the kernel's own count for a task's cgroup.
func (b *bench) usedCPU(task *Task) time.Duration {
	b.t.Helper()
	text := b.cgroupFile(task, "cpuacct", "cpuacct.usage", "cpu.stat")
	if rest, ok := strings.CutPrefix(text, "usage_usec "); ok {
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		must(b.t, err)
		return time.Duration(n) * time.Microsecond
	}
	n, err := strconv.Atoi(text)
	must(b.t, err)
	return time.Duration(n)
}

// Percentages are against the kernel's own count over the same time, so that a busy machine does not matter.
func TestStatsOfABusyLoop(t *testing.T) {
	b := launch(t)
	task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "args": []string{"spin"}})
	ctx, cancel := contextFor(time.Minute)
	defer cancel()
	channel, err := b.TaskStats(ctx, task.ID, 250*time.Millisecond)
	must(t, err)
	first := <-channel
	begin, used := time.Now(), b.usedCPU(task)
	var shown, modes, ticks float64 // CPU seconds, MHz seconds
	last := first
	for range 12 {
		next, ok := <-channel
		if !ok {
			t.Fatal("the stream of stats ended")
		}
		seconds := time.Duration(next.Timestamp - last.Timestamp).Seconds()
		cpu := next.ResourceUsage.CpuStats
		shown += cpu.Percent / 100 * seconds
		modes += (cpu.UserMode + cpu.SystemMode) / 100 * seconds
		ticks += cpu.TotalTicks * seconds
		last = next
	}
	took, really := time.Since(begin).Seconds(), (b.usedCPU(task) - used).Seconds()
	wall := time.Duration(last.Timestamp - first.Timestamp).Seconds()
	t.Logf("%.1f %% of a core shown, %.1f %% used, %.1f MHz", shown/wall*100, really/took*100, ticks/wall)
	if math.Abs(shown/wall-really/took) > 0.05 {
		t.Errorf("shown %.3f, used %.3f of a core", shown/wall, really/took)
	}
	if math.Abs(modes/wall-shown/wall) > 0.1 {
		t.Errorf("user and system mode make %.3f, all is %.3f of a core", modes/wall, shown/wall)
	}
	if mhz := ticks / shown; mhz < 100 || mhz > 10_000 {
		t.Errorf("a core has %.1f MHz", mhz)
	}
}

func TestStatsOfMemory(t *testing.T) {
	b := launch(t)
	// tail keeps the last 64 MiB of a stream that does not end.
	task := b.shell("(head -c 80000000 /dev/zero; echo up >&2; sleep 1000) | tail -c 67108864", nil)
	must(t, task.Stderr.WaitFor("up", 90*time.Second))
	err := eventually(10*time.Second, func() error {
		ctx, cancel := contextFor(10 * time.Second)
		defer cancel()
		channel, err := b.TaskStats(ctx, task.ID, time.Hour)
		if err != nil {
			return err
		}
		sample := <-channel
		if sample == nil {
			return errors.New("no sample")
		}
		memory := sample.ResourceUsage.MemoryStats
		if memory.RSS < 64<<20 || memory.RSS > 150<<20 || memory.Usage < memory.RSS || memory.Swap > 1<<20 {
			return fmt.Errorf("%+v", memory)
		}
		for _, field := range []string{"RSS", "Cache", "Swap", "Usage"} {
			if !strings.Contains(strings.Join(memory.Measured, ","), field) {
				return fmt.Errorf("%s is not among the measured %v", field, memory.Measured)
			}
		}
		return nil
	})
	must(t, err)
}

// A stream lives as long as its task, and ends with it.
func TestStatsEndWithTheTask(t *testing.T) {
	b := launch(t)
	task, _ := b.start(map[string]any{"image": image("library/probe:latest")})
	must(t, task.Stdout.WaitFor("started", 10*time.Second))
	ctx, cancel := contextFor(20 * time.Second)
	defer cancel()
	channel, err := b.TaskStats(ctx, task.ID, 100*time.Millisecond)
	must(t, err)
	<-channel
	must(t, b.StopTask(task.ID, 10*time.Second, ""))
	for range channel {
	}
	if ctx.Err() != nil {
		t.Error("the stream goes on after the task's end")
	}
}

func TestStatsIntervalIsChecked(t *testing.T) {
	b := launch(t)
	for _, value := range []string{"0s", "99ms", "-1s", "often"} {
		config := pluginConfig(b.stateDir)
		config["stats_interval"] = value
		wantError(t, b.Configure(config), "stats_interval", value)
	}
}
