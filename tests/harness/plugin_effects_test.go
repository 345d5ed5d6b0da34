package harness

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"
)

// Every option of the plugin's configuration has a line here: TestEveryOptionIsSeen compares the two.
var pluginEffects = map[string]any{
	"enabled":            elsewhere("TestDisabled"),
	"containerd_runtime": elsewhere("TestPluginConfigurationIsChecked"),
	"stats_interval":     elsewhere("TestStatsInterval"),
	"data_dir":           elsewhere("TestFoldersOfTheNode"),
	"state_dir":          elsewhere("TestFoldersOfTheNode"),
	"shim":               elsewhere("TestProgramsOfTheNode"),
	"runtime_binary":     elsewhere("TestProgramsOfTheNode"),
	"image_helper":       elsewhere("TestProgramsOfTheNode"),
	"init_path":          elsewhere("TestProgramsOfTheNode"),
	"hosts_dir":          elsewhere("TestHostsDir"),
	"pids_limit":         elsewhere("TestPidsLimitOfTheNode"),
	"default_network":    elsewhere("TestDefaultNetwork"),
	"starts_at_once":     elsewhere("TestStartsAtOnce"),
	"networks":           elsewhere("tests/nomad/test_networks.py: def test_a_job_of_dockers_driver_needs_only_another_name"),
	"cni_path":           elsewhere("TestNetworkFaultCycles"),
	"cni_config_dir":     elsewhere("tests/driver/net/networks_test.cc: networks of the node are those of its folders"),

	"bridge_network":           elsewhere("TestBridgeNetwork"),
	"bridge_network.name":      elsewhere("TestBridgeNetwork"),
	"bridge_network.subnet":    elsewhere("TestBridgeNetwork"),
	"bridge_network.subnet_v6": elsewhere("TestBridgeNetwork"),
	"bridge_network.mtu":       elsewhere("TestBridgeNetwork"),
	"bridge_network.firewall":  elsewhere("TestBridgeNetwork"),
	"bridge_network.dns":       elsewhere("TestBridgeNetwork"),

	"gc":                                    elsewhere("TestDanglingTasks"),
	"gc.dangling_containers":                elsewhere("TestDanglingTasks"),
	"gc.dangling_containers.enabled":        elsewhere("tests/driver/life/reaper_test.cc: what nobody asks for"),
	"gc.dangling_containers.dry_run":        elsewhere("tests/driver/life/reaper_test.cc: a dry run ends nothing"),
	"gc.dangling_containers.period":         elsewhere("TestDanglingTasks"),
	"gc.dangling_containers.creation_grace": elsewhere("TestDanglingTasks"),

	"auth":                elsewhere("TestCredentialsOfTheNode"),
	"auth.username":       elsewhere("TestCredentialsOfTheNode"),
	"auth.password":       elsewhere("TestCredentialsOfTheNode"),
	"auth.server_address": elsewhere("TestCredentialsOfTheNode"),
	"auth.config":         elsewhere("TestCredentialsOfTheNode"),
	"auth.helper":         elsewhere("TestCredentialsOfTheNode"),

	"image_gc":              elsewhere("TestCollectionAtPulls"),
	"image_gc.enabled":      elsewhere("TestCollectionAtPulls"),
	"image_gc.max_size":     elsewhere("TestCollectionAtPulls"),
	"image_gc.keep":         elsewhere("TestCollectionAtPulls"),
	"image_gc.keep_for":     elsewhere("TestCollectionAtPulls"),
	"image_gc.interval":     elsewhere("TestCollectionOfTheUnused"),
	"image_gc.unused_for":   elsewhere("TestCollectionOfTheUnused"),
	"image_gc.high_percent": elsewhere("TestCollectionOfAFullDisk"),
	"image_gc.low_percent":  elsewhere("TestCollectionOfAFullDisk"),

	"profile":                             elsewhere("TestGates"),
	"allow_privileged":                    elsewhere("TestPrivilegedDenied"),
	"allow_caps":                          elsewhere("TestGatesThatAreSetWinOverTheProfile"),
	"allowed_modes":                       elsewhere("TestGatesThatAreSetWinOverTheProfile"),
	"allow_devices":                       elsewhere("TestGatesThatAreSetWinOverTheProfile"),
	"require_seccomp":                     elsewhere("TestRequirementsWithoutTheProfile"),
	"require_no_new_privileges":           elsewhere("TestRequirementsWithoutTheProfile"),
	"volumes":                             elsewhere("TestVolumesGateIsNotFooledByLinks"),
	"volumes.enabled":                     elsewhere("TestVolumesGateIsNotFooledByLinks"),
	"allowed_registries":                  elsewhere("TestAllowedRegistries"),
	"require_digest":                      elsewhere("TestRequireDigest"),
	"image_verifier":                      elsewhere("TestImageVerifier"),
	"image_verifier.bin_dir":              elsewhere("TestImageVerifier"),
	"image_verifier.max_verifiers":        elsewhere("TestImageVerifier"),
	"image_verifier.per_verifier_timeout": elsewhere("TestImageVerifier"),
	"runtimes":                            elsewhere("TestRuntimes"),
	"allow_runtimes":                      elsewhere("TestRuntimes"),
}

func TestDisabled(t *testing.T) {
	first := fingerprint(t, launch(t, map[string]any{"enabled": false}))
	if first.Health != drivers.HealthStateUndetected {
		t.Errorf("%+v", first)
	}
	wantText(t, first.HealthDescription, "disabled", "enabled")
}

func TestFoldersOfTheNode(t *testing.T) {
	data, state := t.TempDir(), filepath.Join(baseDir, "st"+randomHex(4)) // short: sockets have 108 bytes
	defer os.RemoveAll(state)
	b := launch(t, map[string]any{"data_dir": data, "state_dir": state})
	task := b.shell("echo x > /written; echo up; exec sleep 1000", nil)
	must(t, task.Stdout.WaitFor("up", 10*time.Second))
	for _, pattern := range []string{filepath.Join(data, "blobs/sha256/*"), filepath.Join(data, "layers/*"),
		filepath.Join(data, "tasks/*/upper/written"), filepath.Join(state, "bundles/*/config.json")} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) == 0 {
			t.Errorf("nothing at %s (%v)", pattern, err)
		}
	}
	must(t, b.DestroyTask(task.ID, true))
	for _, pattern := range []string{filepath.Join(data, "tasks/*"), filepath.Join(state, "bundles/*")} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Errorf("left: %v", found)
		}
	}
}

// Each program that the driver calls can be another one: here a script that notes the call and does the same.
func TestProgramsOfTheNode(t *testing.T) {
	dir := t.TempDir()
	script := func(name, body string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755))
		return path
	}
	noting := func(option, program string) string {
		return script(filepath.Base(program), fmt.Sprintf("echo called >> %s/%s.calls\nexec %s \"$@\"", dir, option, program))
	}
	installed := func(name string) string {
		path, err := exec.LookPath(name)
		must(t, err)
		return path
	}
	helper, err := filepath.Abs(filepath.Join(filepath.Dir(*driverFlag), "containerd-driver-image"))
	must(t, err)
	b := launch(t, map[string]any{
		"data_dir":       t.TempDir(),
		"shim":           noting("shim", installed("containerd-shim-runc-v2")),
		"runtime_binary": noting("runtime_binary", installed("runc")),
		"image_helper":   noting("image_helper", helper),
		"init_path":      script("my-init", "shift; echo init of the node; exec \"$@\""), // called as init -- command…
	})
	wantText(t, b.output("echo command", map[string]any{"init": true}), "init of the node\ncommand\n")
	for _, option := range []string{"shim", "runtime_binary", "image_helper"} {
		if _, err := os.Stat(filepath.Join(dir, option+".calls")); err != nil {
			t.Errorf("the program of %s was not called", option)
		}
	}
}

func TestHostsDir(t *testing.T) {
	mirror := newGenerated(t, 1000)
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "registry.invalid"), 0o755))
	text := fmt.Sprintf("[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", mirror.address)
	must(t, os.WriteFile(filepath.Join(dir, "registry.invalid/hosts.toml"), []byte(text), 0o644))
	b := launch(t, map[string]any{"data_dir": t.TempDir(), "hosts_dir": t.TempDir() + ":" + dir})
	must(t, b.runOnce(map[string]any{"image": "registry.invalid/gen/1:1"}))
	if mirror.count("/gen/1/") == 0 {
		t.Error("the mirror was not asked")
	}
}

// In each of the ways a node has them; what they are not for gets none.
func TestCredentialsOfTheNode(t *testing.T) {
	locked := newGenerated(t, 1000)
	locked.user, locked.password = "node", "pw"+randomHex(31)
	t.Setenv("CONTAINERD_DRIVER_LOG_LEVEL", "trace")
	dir := t.TempDir()
	config := filepath.Join(dir, "config.json")
	encoded := base64.StdEncoding.EncodeToString([]byte(locked.user + ":" + locked.password))
	must(t, os.WriteFile(config, []byte(fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, locked.address, encoded)), 0o600))
	helper := filepath.Join(dir, "docker-credential-test")
	must(t, os.WriteFile(helper, []byte(fmt.Sprintf(
		"#!/bin/sh\nread server; echo \"$1 $server\" > %s/asked; echo '{\"Username\": %q, \"Secret\": %q}'\n", dir, locked.user, locked.password)), 0o700))
	auth := func(more map[string]any) map[string]any {
		all := map[string]any{"username": locked.user, "password": locked.password}
		for key, value := range more {
			all[key] = value
		}
		return all
	}
	for name, test := range map[string]struct {
		auth   map[string]any
		denied bool
	}{
		"none":           {nil, true},
		"no server":      {auth(nil), true}, // as an agent file of the Go driver has it: for docker.io
		"every server":   {auth(map[string]any{"server_address": "*"}), false},
		"with an email":  {auth(map[string]any{"server_address": locked.address, "email": "ci@example.com"}), false},
		"wrong password": {auth(map[string]any{"server_address": locked.address, "password": "guess"}), true},
		"this server":    {auth(map[string]any{"server_address": "http://" + locked.address + "/v2/"}), false},
		"another server": {auth(map[string]any{"server_address": "registry.invalid"}), true},
		"config.json":    {map[string]any{"config": config}, false},
		"helper":         {map[string]any{"helper": helper}, false},
	} {
		t.Run(name, func(t *testing.T) {
			options := map[string]any{"data_dir": t.TempDir()}
			if test.auth != nil {
				options["auth"] = test.auth
			}
			b := launch(t, options)
			err := b.runOnce(map[string]any{"image": locked.reference(1, "1")})
			if test.denied {
				wantError(t, err, locked.address, "may require authorization")
				if hint := strings.Contains(fmt.Sprint(err), "server_address"); hint != (name == "no server") {
					t.Errorf("%v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
			if strings.Contains(b.Log.String()+fmt.Sprint(err), locked.password) {
				t.Error("the password is told")
			}
			b.scan(t, locked.password)
			found, _ := exec.Command("grep", "-rlF", locked.password, options["data_dir"].(string)).Output()
			if len(found) > 0 {
				t.Errorf("the password is in %s", found)
			}
		})
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	must(t, err)
	wantText(t, string(asked), "get "+locked.address)
}

// is tells whether an image is in the store at `dir`, without using it.
func (g *generated) isIn(dir string, n int) bool {
	g.mutex.Lock()
	manifest := g.image(fmt.Sprint(n)).manifest.digest
	g.mutex.Unlock()
	_, err := os.Stat(filepath.Join(dir, "blobs", strings.Replace(manifest, ":", "/", 1)))
	return err == nil
}

// Three images, each larger than the store may be: room is made before the next one is fetched.
func TestCollectionAtPulls(t *testing.T) {
	registry := newGenerated(t, 1_000_000)
	for name, test := range map[string]struct {
		gc   map[string]any
		stay string
	}{
		"max_size": {map[string]any{}, "3"},
		"enabled":  {map[string]any{"enabled": false}, "123"},
		"keep_for": {map[string]any{"keep_for": "1h"}, "123"},
		"keep":     {map[string]any{"keep": []string{registry.address + "/gen/1:*"}}, "13"},
	} {
		t.Run(name, func(t *testing.T) {
			gc := map[string]any{"max_size": "1MiB", "keep_for": "0s"}
			for key, value := range test.gc {
				gc[key] = value
			}
			dir := t.TempDir()
			b := launch(t, map[string]any{"data_dir": dir, "image_gc": gc})
			stay := ""
			for n := 1; n <= 3; n++ {
				must(t, b.runOnce(map[string]any{"image": registry.reference(n, "1")}))
			}
			for n := 1; n <= 3; n++ {
				if registry.isIn(dir, n) {
					stay += fmt.Sprint(n)
				}
			}
			if stay != test.stay {
				t.Errorf("images %s are there, want %s", stay, test.stay)
			}
		})
	}
}

// An agent listens to the fingerprint; the driver looks after its images when it looks at the node.
func (b *bench) housekeeping() {
	b.t.Helper()
	ctx, cancel := contextFor(5 * time.Minute)
	b.t.Cleanup(cancel)
	_, err := b.Fingerprint(ctx)
	must(b.t, err)
}

// At its first look the image has just been used. At the second, 30 s later, it is looked again because of `interval`.
func TestCollectionOfTheUnused(t *testing.T) {
	registry := newGenerated(t, 1000)
	dir := t.TempDir()
	b := launch(t, map[string]any{"data_dir": dir,
		"image_gc": map[string]any{"interval": "1s", "unused_for": "2s", "keep_for": "0s", "keep": []string{registry.reference(2, "1")}}})
	for n := 1; n <= 2; n++ {
		must(t, b.runOnce(map[string]any{"image": registry.reference(n, "1")}))
	}
	b.housekeeping()
	must(t, eventually(60*time.Second, func() error {
		if registry.isIn(dir, 1) {
			return errors.New("the image that nobody uses stays")
		}
		return nil
	}))
	if !registry.isIn(dir, 2) {
		t.Error("the image to keep is gone")
	}
}

// Room is made by age, from high_percent down to low_percent and no further.
func TestCollectionOfAFullDisk(t *testing.T) {
	const images = 5
	registry := newGenerated(t, 4_000_000)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128m"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	percent := func() uint64 {
		var stat unix.Statfs_t
		must(t, unix.Statfs(dir, &stat))
		return (stat.Blocks - stat.Bfree) * 100 / stat.Blocks
	}
	fill := launch(t, map[string]any{"data_dir": dir, "image_gc": map[string]any{"enabled": false}})
	for n := range images {
		must(t, fill.runOnce(map[string]any{"image": registry.reference(n, "1")}))
	}
	full := percent()
	low := full / 2
	if full < 20 {
		t.Fatalf("%d images fill %d %% of the disk only", images, full)
	}
	settings := func(high uint64) map[string]any {
		return map[string]any{"data_dir": dir, "image_gc": map[string]any{"high_percent": high, "low_percent": low, "keep_for": "0s"}}
	}
	roomy := launch(t, settings(full+1))
	collected := fmt.Sprintf("%q", "image removed")
	roomy.housekeeping()
	tight := launch(t, settings(full-1))
	tight.housekeeping()
	must(t, eventually(20*time.Second, func() error {
		if used := percent(); used > low || !strings.Contains(tight.Log.String(), collected) {
			return fmt.Errorf("%d %% are used", used)
		}
		return nil
	}))
	if strings.Contains(roomy.Log.String(), collected) {
		t.Error("the one with room collected")
	}
	there := ""
	for n := range images {
		if registry.isIn(dir, n) {
			there += fmt.Sprint(n)
		}
	}
	if there == "" || !strings.HasSuffix("01234", there) {
		t.Errorf("images %q are there, want the youngest", there)
	}
}

func TestRequirementsWithoutTheProfile(t *testing.T) {
	b := launch(t, map[string]any{"require_seccomp": true, "require_no_new_privileges": true})
	b.refuses(map[string]any{"seccomp": false}, "require_seccomp")
	b.refuses(map[string]any{"no_new_privileges": false}, "require_no_new_privileges")
	wantText(t, b.output("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status", map[string]any{"cap_add": []string{"net_admin"}}),
		"Seccomp:\t2\n", "NoNewPrivs:\t1\n")
}
