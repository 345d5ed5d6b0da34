package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cli runs a command of the binary on the folders of the plugin.
func (b *bench) cli(words ...string) string {
	b.t.Helper()
	cmd := exec.Command(*driverFlag, append([]string{"--data-dir", dataDir, "--state-dir", b.stateDir}, words...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		b.t.Errorf("%v: %v\n%s", words, err, out.String())
	}
	return out.String()
}

// Every command beside a plugin with tasks: afterwards it is told of ends and OOM kills as before.
func TestCommandsBesideAPlugin(t *testing.T) {
	b := launch(t)
	events := b.collectEvents()
	count := 20
	if *sanitized {
		count = 4
	}
	tasks := make([]*Task, count)
	for i := range tasks {
		tasks[i], _ = b.start(busybox("trap 'exit 3' TERM; echo up; while true; do sleep 0.2; done"))
	}
	busy := image("library/busybox:latest")
	info, err := b.InspectTask(tasks[0].ID)
	must(t, err)
	container := info.DriverAttributes["container_id"]
	for _, words := range [][]string{
		{"run", "--rm", busy, "true"},
		{"run", "--rm", "--net", "host", busy, "sh", "-c", "echo hello"},
		{"ps"},
		{"ps", "-o", "json"},
		{"inspect", container},
		{"images"},
		{"pull", busy},
		{"fsck"},
		{"gc"},
		{"version"},
	} {
		b.cli(words...)
		if _, err := os.Stat(filepath.Join(b.stateDir, "events")); err != nil {
			t.Fatalf("after %v: %v", words, err)
		}
	}
	if strings.Contains(b.cli("ps"), "run-") {
		t.Error("a command left a container")
	}

	eater, _ := b.start(busybox("(tail -c 400000000 /dev/zero); echo lost one; sleep 600"))
	must(t, eater.Stdout.WaitFor("lost one", 20*time.Second))
	begin := time.Now()
	waitEvent(t, events, "OOM killed")
	t.Logf("the OOM kill was told after %s", time.Since(begin))

	begin = time.Now()
	result, err := b.ExecTask(tasks[1].ID, []string{"echo", "hi"}, 10*time.Second)
	must(t, err)
	wantText(t, string(result.Stdout), "hi")
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("a command in a task took %s", took)
	}

	ended := make(chan time.Time, 1)
	go func() {
		b.wait(tasks[2])
		ended <- time.Now()
	}()
	time.Sleep(100 * time.Millisecond) // until it waits
	must(t, b.SignalTask(tasks[2].ID, "SIGTERM"))
	begin = time.Now()
	if took := (<-ended).Sub(begin); took > 1500*time.Millisecond {
		t.Errorf("the end of a task was told after %s", took)
	}
}

// Two plugins on the same folders, as of two agents: neither takes what is the other's.
func TestTwoPluginsOnTheSameFolders(t *testing.T) {
	b := launch(t)
	first, _ := b.start(busybox("exec sleep 600"))
	other, err := Launch(*driverFlag, b.Config)
	must(t, err)
	mine := b.Plugin
	b.Plugin = other
	second, _ := b.start(busybox("exec sleep 600"))
	b.Plugin = mine
	lock, err := os.ReadFile(filepath.Join(b.stateDir, "events.lock"))
	must(t, err)
	if holder := strings.TrimSpace(string(lock)); holder != fmt.Sprint(mine.Pid) {
		t.Errorf("the events are told to %s, not to the first plugin %d", holder, mine.Pid)
	}
	if _, err := mine.InspectTask(second.ID); err == nil {
		t.Error("a plugin knows another one's task")
	}
	must(t, other.DestroyTask(second.ID, true))
	other.Close()
	if _, err := os.Stat(filepath.Join(b.stateDir, "events")); err != nil {
		t.Errorf("the second plugin took the first one's socket along: %v", err)
	}
	if _, err := mine.InspectTask(first.ID); err != nil {
		t.Error(err)
	}
}

// A plugin that was killed leaves a folder for its socket; the next one takes it away, however young it is.
func TestFoldersOfKilledPlugins(t *testing.T) {
	b := launch(t)
	pattern := filepath.Join(os.TempDir(), "containerd-driver-plugin-*")
	before, _ := filepath.Glob(pattern)
	must(t, b.KillNow())
	b.relaunch()
	after, _ := filepath.Glob(pattern)
	if len(after) > len(before) {
		t.Errorf("before %v, after %v", before, after)
	}
}
