package harness

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/fsisolation"
	"github.com/hashicorp/nomad/plugins/drivers/testutils"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestWithoutCookie(t *testing.T) {
	cmd := exec.Command(*driverFlag)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if strings.Contains(stdout.String(), "|grpc|") || stdout.Len()+stderr.Len() == 0 {
		t.Errorf("started by hand it should print its usage; stdout %q, stderr %q", stdout.String(), stderr.String())
	}
}

func TestPluginInfo(t *testing.T) {
	b := launch(t)
	info, err := b.PluginInfo()
	must(t, err)
	if info.Type != base.PluginTypeDriver || info.Name != "containerd-driver" || info.PluginVersion == "" {
		t.Errorf("%+v", info)
	}
	if len(info.PluginApiVersions) != 1 || info.PluginApiVersions[0] != drivers.ApiVersion010 {
		t.Errorf("api versions: %v", info.PluginApiVersions)
	}
}

func TestCapabilities(t *testing.T) {
	caps, err := launch(t).Capabilities()
	must(t, err)
	if !caps.SendSignals || !caps.Exec || caps.FSIsolation != fsisolation.Image {
		t.Errorf("%+v", caps)
	}
	if !caps.HasNetIsolationMode(drivers.NetIsolationModeGroup) {
		t.Errorf("no group networks: %+v", caps)
	}
}

func TestPluginOptions(t *testing.T) {
	b := launch(t)
	must(t, b.Configure(pluginConfig(b.stateDir))) // a second SetConfig is what an agent does; the last one wins
	for name, test := range map[string]struct {
		option string
		value  any
		words  []string
	}{
		"unknown option":    {"colour", "blue", []string{"colour"}},
		"bad duration":      {"stats_interval", "sometimes", []string{"stats_interval", "sometimes"}},
		"negative duration": {"stats_interval", "-1s", []string{"stats_interval", "-1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := pluginConfig(b.stateDir)
			config[test.option] = test.value
			wantError(t, b.Configure(config), test.words...)
		})
	}
}

func TestFingerprint(t *testing.T) {
	b := launch(t)
	ctx, cancel := contextFor(10 * time.Second)
	defer cancel()
	channel, err := b.Fingerprint(ctx)
	must(t, err)
	first := <-channel
	if first == nil || first.Err != nil || first.Health != drivers.HealthStateHealthy {
		t.Fatalf("%+v", first)
	}
	if first.Attributes["driver.containerd-driver.version"] == nil {
		t.Errorf("no driver.containerd-driver.version in %v", first.Attributes)
	}
	for name, file := range map[string]string{
		"ip_forward": "/proc/sys/net/ipv4/ip_forward", "br_netfilter": "/proc/sys/net/bridge/bridge-nf-call-iptables",
	} {
		want := "missing"
		if text, err := os.ReadFile(file); err == nil {
			want = strconv.FormatBool(strings.TrimSpace(string(text)) != "0")
		}
		got := first.Attributes["driver.containerd-driver."+name]
		if got == nil || got.String == nil || *got.String != want {
			t.Errorf("%s is %v, not %s", name, got, want)
		}
	}
	// A second stream must work beside the first: an agent opens one after a reconnect.
	again, err := b.Fingerprint(ctx)
	must(t, err)
	if second := <-again; second == nil || second.Err != nil {
		t.Errorf("second stream: %+v", second)
	}
}

// What is missing on the node is said in the fingerprint; a plugin that failed would keep the agent from starting.
func TestFingerprintOfBadNodes(t *testing.T) {
	file := filepath.Join(baseDir, "a-file")
	must(t, os.WriteFile(file, nil, 0o644))
	for name, test := range map[string]struct {
		option, value string
		health        drivers.HealthState
	}{
		"no shim":                {"shim", "/nonexistent/containerd-shim-runc-v2", drivers.HealthStateUndetected},
		"shim is something else": {"shim", "/bin/true", drivers.HealthStateUndetected},
		"no runtime":             {"runtime_binary", "/nonexistent/runc", drivers.HealthStateUndetected},
		"no image helper":        {"image_helper", "/nonexistent/helper", drivers.HealthStateUndetected},
		"unusable data_dir":      {"data_dir", file + "/data", drivers.HealthStateUnhealthy},
		"unusable state_dir":     {"state_dir", file + "/state", drivers.HealthStateUnhealthy},
	} {
		t.Run(name, func(t *testing.T) {
			first := fingerprint(t, launch(t, map[string]any{test.option: test.value}))
			if first.Health != test.health {
				t.Errorf("%+v", first)
			}
			wantText(t, first.HealthDescription, test.value)
		})
	}
}

func TestFingerprintNotRoot(t *testing.T) {
	b := &bench{t: t}
	var err error
	b.Plugin, err = Start(*driverFlag, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	})
	must(t, err)
	defer b.Close()
	must(t, b.Configure(pluginConfig(filepath.Join(baseDir, "never"))))
	first := fingerprint(t, b)
	if first.Health != drivers.HealthStateUndetected {
		t.Errorf("%+v", first)
	}
	wantText(t, first.HealthDescription, "root")
}

// A shim that is installed later is found without a restart.
func TestFingerprintRecovers(t *testing.T) {
	shim := filepath.Join(baseDir, "later", "containerd-shim-runc-v2")
	b := launch(t, map[string]any{"shim": shim})
	ctx, cancel := contextFor(45 * time.Second)
	defer cancel()
	channel, err := b.Fingerprint(ctx)
	must(t, err)
	if first := <-channel; first == nil || first.Health != drivers.HealthStateUndetected {
		t.Fatalf("%+v", first)
	}
	installed, err := exec.LookPath("containerd-shim-runc-v2")
	must(t, err)
	must(t, os.Mkdir(filepath.Dir(shim), 0o755))
	must(t, os.Symlink(installed, shim))
	for next := range channel {
		if next.Err == nil && next.Health == drivers.HealthStateHealthy {
			return
		}
	}
	t.Error("not healthy within 45 s")
}

func fingerprint(t *testing.T, b *bench) *drivers.Fingerprint {
	t.Helper()
	ctx, cancel := contextFor(10 * time.Second)
	defer cancel()
	channel, err := b.Fingerprint(ctx)
	must(t, err)
	first := <-channel
	if first == nil || first.Err != nil {
		t.Fatalf("%+v", first)
	}
	return first
}

func TestExitCodes(t *testing.T) {
	b := launch(t)
	for _, code := range []int{0, 7, 255} {
		task := b.shell(fmt.Sprintf("echo out; echo err >&2; exit %d", code), nil)
		result := b.wait(task)
		if result.ExitCode != code || result.Signal != 0 || result.OOMKilled {
			t.Errorf("exit %d: %+v", code, result)
		}
		stdout, err := task.Stdout.All(5 * time.Second)
		must(t, err)
		stderr, err := task.Stderr.All(5 * time.Second)
		must(t, err)
		if stdout != "out\n" || stderr != "err\n" {
			t.Errorf("stdout %q, stderr %q", stdout, stderr)
		}
		info, err := b.InspectTask(task.ID)
		must(t, err)
		if info.State != drivers.TaskStateExited || info.ExitResult == nil || info.ExitResult.ExitCode != code {
			t.Errorf("InspectTask: %+v %+v", info, info.ExitResult)
		}
		if info.CompletedAt.Before(info.StartedAt) || info.StartedAt.Before(time.Now().Add(-time.Minute)) {
			t.Errorf("started %s, completed %s", info.StartedAt, info.CompletedAt)
		}
	}
}

func TestInspectRunning(t *testing.T) {
	b := launch(t)
	task, handle := b.start(map[string]any{"image": image("library/probe:latest")})
	must(t, task.Stdout.WaitFor("started", 10*time.Second))
	info, err := b.InspectTask(task.ID)
	must(t, err)
	if info.ID != task.ID || info.Name != task.Name || info.State != drivers.TaskStateRunning {
		t.Errorf("%+v", info)
	}
	if handle.Config == nil || handle.Config.ID != task.ID || handle.Version < 1 || len(handle.DriverState) == 0 {
		t.Errorf("handle: %+v", handle)
	}
	// The agent repeats StartTask when the answer to the first was lost: the running task is the answer.
	again, _, err := b.StartTask(task.TaskConfig)
	must(t, err)
	if !bytes.Equal(again.DriverState, handle.DriverState) {
		t.Errorf("handles of one task differ: %q and %q", handle.DriverState, again.DriverState)
	}
	same, err := b.InspectTask(task.ID)
	must(t, err)
	if !same.StartedAt.Equal(info.StartedAt) || same.DriverAttributes["pid"] != info.DriverAttributes["pid"] {
		t.Errorf("the same task started twice: %+v, then %+v", info, same)
	}
}

func TestWaitTask(t *testing.T) {
	b := launch(t)
	task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "args": []string{"until", "/local/go", "3"}})
	cancelled, cancel := context.WithCancel(context.Background())
	_, err := b.WaitTask(cancelled, task.ID) // an agent cancels a call and makes another
	must(t, err)
	cancel()
	var group sync.WaitGroup
	for range 3 {
		group.Add(1)
		go func() {
			defer group.Done()
			if result, err := b.waitFor(task.ID, 20*time.Second); err != nil || result.ExitCode != 3 {
				t.Errorf("%+v, %v", result, err)
			}
		}()
	}
	must(t, os.WriteFile(filepath.Join(task.root, task.Name, "local/go"), nil, 0o644))
	group.Wait()
	if result := b.wait(task); result.ExitCode != 3 { // also after the exit, as often as asked
		t.Errorf("%+v", result)
	}
	must(t, b.DestroyTask(task.ID, false))
	channel, err := b.WaitTask(context.Background(), task.ID)
	if err == nil {
		result := <-channel
		err = result.Err
	}
	wantError(t, err, "task not found")
}

func TestUnknownTask(t *testing.T) {
	b := launch(t)
	const id = "no/such/task"
	_, err := b.InspectTask(id)
	wantError(t, err, "task not found")
	wantError(t, b.SignalTask(id, "SIGHUP"), "task not found")
	_, err = b.ExecTask(id, []string{"true"}, time.Second)
	wantError(t, err, "task not found")
	must(t, b.StopTask(id, time.Second, "")) // an error would be retried for minutes
	must(t, b.DestroyTask(id, false))        // so would this
	must(t, b.DestroyTask(id, true))
	if result, err := b.waitFor(id, 5*time.Second); err == nil && result.Err == nil {
		t.Errorf("the end of an unknown task: %+v", result)
	}
	ctx, cancel := contextFor(5 * time.Second)
	defer cancel()
	if stats, err := b.TaskStats(ctx, id, time.Second); err == nil {
		if usage, ok := <-stats; ok {
			t.Errorf("statistics of an unknown task: %+v", usage)
		}
	}
}

func TestSignalTask(t *testing.T) {
	b := launch(t)
	task, _ := b.start(map[string]any{"image": image("shm32/signal_handler:1.0")})
	must(t, task.Stdout.WaitFor("Waiting for signals.", 10*time.Second))
	for _, name := range []string{"SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"} {
		must(t, b.SignalTask(task.ID, name))
		must(t, task.Stdout.WaitFor("Received signal: "+name, 5*time.Second))
	}
	wantError(t, b.SignalTask(task.ID, "INVALID"), "Invalid signal: INVALID")
	must(t, b.SignalTask(task.ID, "SIGTERM"))
	if result := b.wait(task); !result.Successful() {
		t.Errorf("%+v", result)
	}
}

func TestStopTask(t *testing.T) {
	b := launch(t)
	probe := func(mode, tag string) *Task {
		task, _ := b.start(map[string]any{"image": image("library/probe:" + tag), "args": []string{mode}})
		return task
	}

	t.Run("exits on SIGTERM", func(t *testing.T) {
		task := probe("sleep", "latest")
		must(t, task.Stdout.WaitFor("started", 10*time.Second))
		const timeout = time.Minute
		begin := time.Now()
		must(t, b.StopTask(task.ID, timeout, ""))
		if took := time.Since(begin); took >= timeout { // it returns with the task
			t.Errorf("StopTask took %s", took)
		}
		if result := b.wait(task); !result.Successful() {
			t.Errorf("%+v", result)
		}
		must(t, b.StopTask(task.ID, time.Second, "")) // again: it is stopped, which is what was asked for
	})

	t.Run("ignores SIGTERM", func(t *testing.T) {
		task := probe("ignore", "latest")
		must(t, task.Stdout.WaitFor("ignoring", 10*time.Second))
		begin := time.Now()
		must(t, b.StopTask(task.ID, 700*time.Millisecond, "SIGTERM"))
		if took := time.Since(begin); took < 700*time.Millisecond {
			t.Errorf("SIGKILL came after %s", took)
		}
		if result := b.wait(task); result.Signal != 9 || result.ExitCode != 137 {
			t.Errorf("%+v", result)
		}
	})

	t.Run("kill_signal", func(t *testing.T) {
		task, _ := b.start(map[string]any{"image": image("shm32/signal_handler:1.0")})
		must(t, task.Stdout.WaitFor("Waiting", 10*time.Second))
		must(t, b.StopTask(task.ID, 500*time.Millisecond, "SIGUSR2"))
		wantText(t, task.Stdout.String(), "SIGUSR2")
	})

	t.Run("STOPSIGNAL of the image", func(t *testing.T) {
		task, _ := b.start(map[string]any{"image": image("library/probe:sigusr1"),
			"entrypoint": []string{"/bin/sh", "-c", "trap 'echo usr1; exit 4' USR1; echo started; while :; do sleep 1000 & wait $!; done"}})
		must(t, task.Stdout.WaitFor("started", 10*time.Second))
		must(t, b.StopTask(task.ID, 20*time.Second, ""))
		if result := b.wait(task); result.ExitCode != 4 {
			t.Errorf("%+v", result)
		}
	})

	t.Run("unknown signal", func(t *testing.T) {
		task := probe("sleep", "latest")
		wantError(t, b.StopTask(task.ID, time.Second, "SIGNOPE"), "SIGNOPE")
	})

	t.Run("children die too", func(t *testing.T) {
		task := b.shell("sleep 10000 & sleep 10000 & echo started; trap 'exit 0' TERM; wait", nil)
		must(t, task.Stdout.WaitFor("started", 10*time.Second))
		must(t, b.StopTask(task.ID, 5*time.Second, ""))
		b.wait(task)
		_, err := task.Stdout.All(5 * time.Second) // the children held the FIFO
		must(t, err)
	})
}

func TestDestroyTask(t *testing.T) {
	b := launch(t)
	task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "args": []string{"ignore"}})
	wantError(t, b.DestroyTask(task.ID, false), "cannot destroy running task")
	must(t, b.DestroyTask(task.ID, true))
	_, err := b.InspectTask(task.ID)
	wantError(t, err, "task not found")
	if left := Leftovers([]int{b.Pid}, task.AllocID); len(left) > 0 {
		t.Errorf("left behind when DestroyTask returns: %q", left)
	}
}

func TestTaskStats(t *testing.T) {
	b := launch(t)
	task, _ := b.start(map[string]any{"image": image("library/probe:latest"), "args": []string{"spin"}})
	ctx, cancel := contextFor(time.Minute)
	defer cancel()
	channel, err := b.TaskStats(ctx, task.ID, 200*time.Millisecond)
	must(t, err)
	var busiest float64
	var before time.Time
	for range 10 {
		usage, ok := <-channel
		if !ok {
			t.Fatal("the stream of stats ended")
		}
		at := time.Unix(0, usage.Timestamp)
		if !at.After(before) {
			t.Errorf("time goes back: %s, %s", before, at)
		}
		before = at
		if usage.ResourceUsage.MemoryStats.RSS == 0 && usage.ResourceUsage.MemoryStats.Usage == 0 {
			t.Errorf("no memory: %+v", usage.ResourceUsage.MemoryStats)
		}
		busiest = max(busiest, usage.ResourceUsage.CpuStats.Percent)
	}
	if busiest < 1 || busiest > 220 { // a busy loop on a machine that may be much busier
		t.Errorf("a busy loop uses %.1f %% of a core", busiest)
	}
}

func TestStatsInterval(t *testing.T) {
	b := launch(t, map[string]any{"stats_interval": "100ms"}) // wins over the hour that is asked for
	task, _ := b.start(map[string]any{"image": image("library/probe:latest")})
	ctx, cancel := contextFor(20 * time.Second)
	defer cancel()
	channel, err := b.TaskStats(ctx, task.ID, time.Hour)
	must(t, err)
	for range 3 {
		if _, ok := <-channel; !ok {
			t.Fatal("the stream of stats ended")
		}
	}
}

func TestTaskEvents(t *testing.T) {
	b := launch(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events, err := b.TaskEvents(ctx)
	must(t, err)
	select {
	case event, ok := <-events:
		t.Errorf("an event without a task: %+v (open: %v)", event, ok)
	case <-time.After(300 * time.Millisecond): // a stream that ends makes an agent loop
	}
	again, err := b.TaskEvents(ctx)
	must(t, err)
	select {
	case event, ok := <-again:
		t.Errorf("the second stream: %+v (open: %v)", event, ok)
	case <-time.After(300 * time.Millisecond):
	}
}

// Nomad's own conformance suites run against our client through a second, in-process gRPC server.
func TestNomadSuites(t *testing.T) {
	b := launch(t)
	harness := testutils.NewDriverHarness(t, b.DriverPlugin)
	config := map[string]any{"image": image("library/busybox:latest"), "command": "sleep", "args": []string{"1000"}}
	task := b.task(config, func(c *drivers.TaskConfig) {
		c.DNS = &drivers.DNSConfig{Servers: []string{"127.0.0.1", "127.0.0.2"}, Searches: []string{"internal.corp"},
			Options: []string{"ndots:2"}}
	})
	_, _, err := harness.StartTask(task.TaskConfig)
	must(t, err)
	must(t, harness.WaitUntilStarted(task.ID, 10*time.Second))
	testutils.TestTaskDNSConfig(t, harness, task.ID, task.DNS)
	testutils.TestExecTaskStreamingBasicResponses(t, harness, task.ID)

	// This one looks from inside for the cgroup's name on the host, which a cgroup namespace hides: privileged tasks
	// have none.
	config["privileged"] = true
	open := b.task(config)
	_, _, err = harness.StartTask(open.TaskConfig)
	must(t, err)
	must(t, harness.WaitUntilStarted(open.ID, 10*time.Second))
	testutils.ExecTaskStreamingConformanceTests(t, harness, open.ID)
}

// Whoever may open the socket may write nonsense into it; the agent's own connection does not notice.
func TestHostileConnections(t *testing.T) {
	b := launch(t)
	address := b.client.ReattachConfig().Addr.String()
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for name, bytes := range map[string]string{
		"nothing":          "",
		"half a preface":   preface[:10],
		"HTTP/1":           "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"noise":            strings.Repeat("\xff\x00\xa5", 10000),
		"preface, noise":   preface + strings.Repeat("\xff", 10000),
		"endless settings": preface + "\xff\xff\xff\x04\x00\x00\x00\x00\x00",
		"truncated frame":  preface + "\x00\x00\x40\x01\x04\x00\x00\x00\x01abc",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", address)
			must(t, err)
			_, _ = conn.Write([]byte(bytes)) // the plugin may close first
			must(t, conn.Close())
			_, err = b.PluginInfo()
			must(t, err)
		})
	}

	t.Run("unknown method, bad and large messages", func(t *testing.T) {
		conn, err := grpc.NewClient("unix:"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		must(t, err)
		defer conn.Close()
		ctx, cancel := contextFor(20 * time.Second)
		defer cancel()
		for method, want := range map[string]codes.Code{
			"/nope.Nope/Nope": codes.Unimplemented,
			"/hashicorp.nomad.plugins.drivers.proto.Driver/Nope": codes.Unimplemented,
		} {
			if err := conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != want {
				t.Errorf("%s: %v", method, err)
			}
		}
		large := wrapperspb.Bytes(make([]byte, 128<<20))
		err = conn.Invoke(ctx, "/hashicorp.nomad.plugins.drivers.proto.Driver/StartTask", large, &emptypb.Empty{})
		if status.Code(err) == codes.OK || ctx.Err() != nil {
			t.Errorf("a message of 128 MiB: %v", err)
		}
		_, err = b.PluginInfo()
		must(t, err)
		if rss := b.Usage().RSS; !*sanitized && rss > 100<<10 {
			t.Errorf("%d KiB resident after a large message", rss)
		}
	})
}
