package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ownHost is a network and a mount namespace that stand for a host: what plugins of CNI make there never touches this
// machine's network, and all of it can be listed.
type ownHost struct {
	t      *testing.T
	holder *exec.Cmd
	enter  []string
	dir    string // CNI plugins that obey its file "fault" stand there
}

func newOwnHost(t *testing.T) *ownHost {
	t.Helper()
	h := &ownHost{t: t, holder: exec.Command("unshare", "--net", "--mount", "sleep", "3600"), dir: t.TempDir()}
	dieWithParent(h.holder)
	must(t, h.holder.Start())
	t.Cleanup(func() {
		_ = h.holder.Process.Kill()
		_ = h.holder.Wait()
	})
	pid := strconv.Itoa(h.holder.Process.Pid)
	h.enter = []string{"nsenter", "--target", pid, "--net", "--mount"}
	ours, err := os.Readlink("/proc/self/ns/mnt")
	must(t, err)
	must(t, eventually(5*time.Second, func() error {
		// The network comes before the mounts, in the same call.
		if its, err := os.Readlink("/proc/" + pid + "/ns/mnt"); err != nil || its == ours {
			return fmt.Errorf("no namespace yet: %v", err)
		}
		return nil
	}))
	must(t, eventually(5*time.Second, func() error {
		if comm := string(readFile("/proc/"+pid, "comm")); comm != "sleep" {
			return fmt.Errorf("%s is not ready", comm)
		}
		return nil
	}))
	h.sh("ip link set lo up; mkdir -p /var/lib/cni; mount -t tmpfs cni /var/lib/cni")
	return h
}

func (h *ownHost) command(args ...string) *exec.Cmd {
	return exec.Command(h.enter[0], append(slices.Clone(h.enter[1:]), args...)...)
}

// inside makes a command one of the host's.
func (h *ownHost) inside(cmd *exec.Cmd) {
	in := h.command(cmd.Path)
	cmd.Path, cmd.Args = in.Path, in.Args
}

func (h *ownHost) sh(script string) string {
	h.t.Helper()
	out, err := h.command("sh", "-c", script).Output()
	if err != nil {
		h.t.Fatalf("%s: %v", script, err)
	}
	return string(out)
}

// state is what networks leave: addresses and results, links, rules and chains of containers, namespaces, debts.
func (h *ownHost) state(b *bench) []string {
	out := h.sh(`
		find /var/lib/cni -type f ! -name '.*lock' ! -name lock ! -name 'last_reserved*'
		ip -o link | grep -o 'veth[^:@]*'
		(iptables-save; ip6tables-save) 2> /dev/null | grep -e CNI-DN -e 'id: ' -e '/32' -e '/128'
		grep -o '` + b.stateDir + `/netns[^ ]*' /proc/self/mountinfo
		true`)
	found := strings.Fields(out)
	for _, pattern := range []string{b.stateDir + "/netns/*", dataDir + "/tasks/.networks/*"} {
		names, _ := filepath.Glob(pattern)
		found = append(found, names...)
	}
	return found
}

// clean waits until nothing is left but what was there before.
func (h *ownHost) clean(b *bench) {
	h.t.Helper()
	must(h.t, eventually(60*time.Second, func() error {
		if left := h.state(b); len(left) > 0 {
			return fmt.Errorf("left of networks: %v", left)
		}
		return nil
	}))
}

// launchOn starts a plugin on the host whose tasks get the driver's own network.
func launchOn(t *testing.T, h *ownHost, prepare func(*exec.Cmd), more ...map[string]any) *bench {
	t.Helper()
	options := map[string]any{"default_network": "bridge"}
	return launchCommand(t, func(cmd *exec.Cmd) {
		h.inside(cmd)
		prepare(cmd)
	}, append([]map[string]any{options}, more...)...)
}

func launchOnWithFault(t *testing.T, h *ownHost, fault string) *bench {
	t.Helper()
	if !*faultsFlag {
		t.Skip("needs a binary built with -Dfaults=true, and -faults")
	}
	return launchOn(t, h, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "FAULT="+fault) })
}

// look makes the plugin do what it does every 30 seconds, for an agent that has just come.
func (b *bench) look() {
	b.t.Helper()
	ctx, cancel := contextFor(time.Minute)
	b.t.Cleanup(cancel)
	channel, err := b.Fingerprint(ctx)
	must(b.t, err)
	<-channel
}

// inBridge is busybox with an image that needs no registry: the host of these tests reaches none.
func inBridge(line string) map[string]any {
	config := busybox(line)
	config["image_pull_policy"] = "missing"
	return config
}

// withImage has the image in the store that all tests share.
func withImage(t *testing.T) {
	t.Helper()
	t.Run("image", func(t *testing.T) { launch(t).output("true", nil) })
}

// The places of a start and of an end where a network is made and given back, with the passage that counts. (What several
// plugins in a row leave is tested with published ports, by the command line.)
var (
	attachPoints = []string{
		"start.network.owed:1", "start.network.made:1", "cni.add.ran:1", "start.network.added:1", "start.network:1",
		"start.rootfs:1", "start.created:1", "start.started:1",
	}
	givingBackPoints = []string{
		"cni.del.ran:1", "cni.del.done:1", "cni.netns.removed:1", "teardown.network:1",
	}
)

// An error at any step leaves nothing of a network, and the repeated start works.
func TestNetworkErrorAtEveryStep(t *testing.T) {
	withImage(t)
	h := newOwnHost(t)
	for _, point := range attachPoints {
		t.Run(point, func(t *testing.T) {
			b := launchOnWithFault(t, h, point+"*error(ENOSPC)")
			task := b.task(inBridge("echo fine"))
			_, _, err := b.StartTask(task.TaskConfig)
			wantError(t, err, "injected at")
			b.nothingOf(task)
			h.clean(b)
			must(t, task.reopen())
			_, _, err = b.StartTask(task.TaskConfig)
			must(t, err)
			if result := b.wait(task); !result.Successful() {
				t.Errorf("the retry: %+v", result)
			}
			h.clean(b) // given back at the end of the task, not only with its removal
		})
	}
}

// kill -9 at any step: the next plugin gives back what there was, whether anybody asks for the task or not.
func TestNetworkKillAtEveryStep(t *testing.T) {
	withImage(t)
	h := newOwnHost(t)
	for _, point := range attachPoints {
		die := func(t *testing.T) (*bench, *Task) {
			b := launchOnWithFault(t, h, point+"*kill")
			task := b.task(inBridge("echo started; sleep 600"))
			if _, _, err := b.StartTask(task.TaskConfig); err == nil {
				t.Fatal("the plugin was to die")
			}
			must(t, b.waitGone())
			b.relaunchOn(h)
			must(t, task.reopen())
			return b, task
		}
		t.Run(point+"/repeated", func(t *testing.T) {
			b, task := die(t)
			_, _, err := b.StartTask(task.TaskConfig)
			must(t, err)
			must(t, task.Stdout.WaitFor("started\n", 10*time.Second))
			must(t, b.DestroyTask(task.ID, true))
			h.clean(b)
		})
		t.Run(point+"/given up", func(t *testing.T) {
			b, task := die(t)
			if !strings.HasPrefix(point, "start.created") && !strings.HasPrefix(point, "start.started") {
				b.look() // whose process runs is asked for, or waits for the reaper
				h.clean(b)
			}
			must(t, b.DestroyTask(task.ID, true))
			b.nothingOf(task)
			h.clean(b)
		})
	}
}

// kill -9, or an error, between any two steps of giving a network back.
func TestNetworkFaultWhileGivingBack(t *testing.T) {
	withImage(t)
	h := newOwnHost(t)
	for _, point := range givingBackPoints {
		t.Run(point+"/killed", func(t *testing.T) {
			b := launchOnWithFault(t, h, point+"*kill")
			task, _ := b.start(inBridge("sleep 600"))
			_ = b.DestroyTask(task.ID, true)
			must(t, b.waitGone())
			b.relaunchOn(h)
			must(t, b.DestroyTask(task.ID, true))
			b.nothingOf(task)
			b.look()
			h.clean(b)
		})
		t.Run(point+"/once", func(t *testing.T) {
			b := launchOnWithFault(t, h, point+"*error(EIO)")
			task, _ := b.start(inBridge("sleep 600"))
			must(t, b.DestroyTask(task.ID, true))
			b.look()
			h.clean(b)
		})
	}
}

// faultyPlugins are the real ones behind a script that obeys the file "fault": "N ACTION" for the N-th run of any of them.
func (h *ownHost) faultyPlugins() map[string]any {
	script := `#!/bin/bash
name=${0##*/} here=${0%/*}
[[ $CNI_COMMAND != VERSION ]] || exec "/usr/lib/cni/$name"
exec 9> "$here/lock"
flock 9
count=$(($(cat "$here/count" 2> /dev/null || echo 0) + 1))
echo $count > "$here/count"
read -r at action < "$here/fault"
exec 9>&-
((count == at)) || exec "/usr/lib/cni/$name"
after() { "/usr/lib/cni/$name" > /dev/null; }
case $action in
  fails) cat > /dev/null; echo '{"cniVersion":"0.4.0","code":100,"msg":"told to fail"}'; exit 1 ;;
  fails-after) after; echo '{"cniVersion":"0.4.0","code":100,"msg":"told to fail"}'; exit 1 ;;
  is-killed) kill -9 $$ ;;
  is-killed-after) after; kill -9 $$ ;;
  says-nonsense) after; echo nonsense ;;
  kills-us) kill -9 "$(cat "$here/victim")"; exec "/usr/lib/cni/$name" ;;
  kills-us-after) after; kill -9 "$(cat "$here/victim")" ;;
esac
`
	for _, name := range []string{"bridge", "host-local"} {
		must(h.t, os.WriteFile(filepath.Join(h.dir, name), []byte(script), 0o755))
	}
	return map[string]any{"cni_path": h.dir}
}

func (h *ownHost) plan(at int, action string) {
	must(h.t, os.WriteFile(filepath.Join(h.dir, "fault"), []byte(fmt.Sprintf("%d %s\n", at, action)), 0o600))
	_ = os.Remove(filepath.Join(h.dir, "count"))
}

// A fault at each call of a plugin, or of the plugin that it calls, and a death of ours there: after the next start
// nothing is left of what it did.
func TestNetworkFaultCycles(t *testing.T) {
	withImage(t)
	h := newOwnHost(t)
	actions := []string{
		"fails", "fails-after", "is-killed", "is-killed-after", "says-nonsense", "kills-us", "kills-us-after",
	}
	const calls = 4 // bridge, host-local, and back
	b := launchOn(t, h, func(*exec.Cmd) {}, h.faultyPlugins())
	cycles := min(*netFlag, 11*calls*len(actions))
	if *sanitized {
		cycles = min(cycles, len(actions))
	}
	for i := range cycles {
		at, action := i%calls+1, actions[(i/calls+i)%len(actions)]
		begin := time.Now()
		h.plan(at, action)
		must(t, os.WriteFile(filepath.Join(h.dir, "victim"), []byte(strconv.Itoa(b.Pid)), 0o600))
		task, err := b.NewTask(b.dir, newAllocID(mark), inBridge("true"))
		must(t, err)
		if _, _, err := b.StartTask(task.TaskConfig); err == nil {
			_, _ = b.waitFor(task.ID, 20*time.Second)
		}
		_ = b.DestroyTask(task.ID, true)
		if strings.HasPrefix(action, "kills-us") && b.waitGone() != nil {
			t.Errorf("cycle %d: the plugin lives after %s at call %d", i, action, at)
		}
		if b.client.Exited() {
			b.relaunchOn(h)
			_ = b.DestroyTask(task.ID, true)
		}
		if len(h.state(b)) > 0 {
			_ = b.KillNow() // the next start settles what is owed
			b.relaunchOn(h)
			b.look()
		}
		h.clean(b)
		t.Logf("cycle %d: %s at call %d, %s", i, action, at, time.Since(begin).Round(time.Millisecond))
		task.Remove()
		if t.Failed() {
			t.Fatalf("cycle %d: %s at call %d", i, action, at)
		}
	}
}

// What an operator says of the driver's own network is what a task finds.
func TestBridgeNetwork(t *testing.T) {
	withImage(t)
	h := newOwnHost(t)
	look := func(options map[string]any) (string, string, map[string]string) {
		b := launchOn(t, h, func(*exec.Cmd) {}, map[string]any{"bridge_network": options})
		task, _ := b.start(inBridge("cat /sys/class/net/eth0/mtu /etc/resolv.conf; echo seen; exec sleep 600"))
		must(t, task.Stdout.WaitFor("seen\n", 10*time.Second))
		status, err := b.InspectTask(task.ID)
		must(t, err)
		rules := h.sh("ip -o link; iptables-save -t filter")
		must(t, b.DestroyTask(task.ID, true))
		h.clean(b)
		return task.Stdout.String(), rules, status.DriverAttributes
	}
	out, host, seen := look(map[string]any{
		"name": "mine0", "subnet": "10.95.0.0/24", "subnet_v6": "", "mtu": 1400, "firewall": false,
		"dns": []string{"10.95.0.99"}})
	wantText(t, out, "1400\n", "nameserver 10.95.0.99\n")
	wantText(t, host, " mine0: ")
	if !strings.HasPrefix(seen["ip_address"], "10.95.0.") || seen["ip6_address"] != "" || seen["network"] != "mine0" {
		t.Errorf("attributes: %v", seen)
	}
	if strings.Contains(host, "-j CD-FORWARD-mine0") {
		t.Errorf("rules that were not wanted:\n%s", host)
	}
	out, host, seen = look(map[string]any{"subnet_v6": "fd00:95::/64"})
	wantText(t, out, "1500\n")
	wantText(t, host, " cdnet0: ", "-A CD-FORWARD-cdnet0 -s 172.31.240.0/20 -i cdnet0 -j ACCEPT")
	if !strings.HasPrefix(seen["ip6_address"], "fd00:95::") {
		t.Errorf("attributes: %v", seen)
	}
}

// Tasks in the driver's own network reach each other and the world's side of it, and one address is never two tasks'.
func TestManyInTheBridge(t *testing.T) {
	withImage(t)
	h := newOwnHost(t)
	b := launchOn(t, h, func(*exec.Cmd) {})
	const count = 20
	tasks := make([]*Task, count)
	for i := range tasks {
		tasks[i] = b.task(inBridge("hostname -i; exec sleep 600"))
	}
	inParallel(count, 8, func(i int) {
		if _, _, err := b.StartTask(tasks[i].TaskConfig); err != nil {
			t.Error(err)
		}
	})
	seen := map[string]bool{}
	for _, task := range tasks {
		status, err := b.InspectTask(task.ID)
		must(t, err)
		address := status.DriverAttributes["ip_address"]
		if address == "" || seen[address] {
			t.Errorf("%s has the address %q", task.ID, address)
		}
		seen[address] = true
		// Refused, which takes somebody who refuses.
		h.sh("python3 -c 'import errno, socket as s; c = s.socket(); c.settimeout(5); " +
			"exit(c.connect_ex((\"" + address + "\", 9)) != errno.ECONNREFUSED)'")
	}
	inParallel(count, 8, func(i int) {
		if err := b.DestroyTask(tasks[i].ID, true); err != nil {
			t.Error(err)
		}
	})
	h.clean(b)
}

// relaunchOn is relaunch on the host.
func (b *bench) relaunchOn(h *ownHost) {
	b.t.Helper()
	fresh, err := Launch(*driverFlag, b.Config, h.inside)
	must(b.t, err)
	b.Plugin = fresh
}
