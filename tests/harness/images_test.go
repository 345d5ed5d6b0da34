package harness

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// generated is a registry whose images are made on demand: GEN/n:tag has a static program and `layerBytes` of noise that
// is different for each n. It counts what it is asked for.
type generated struct {
	address    string
	layerBytes int
	program    []byte
	user       string // if not empty: who may come in, with `password`
	password   string

	mutex  sync.Mutex
	images map[string]*generatedImage
	asked  map[string]int
	down   bool
	slow   bool // blobs come in small pieces, which `sent` counts, and in ranges
	sent   atomic.Int64
}

type generatedImage struct {
	manifest, config, layer generatedBlob
}

type generatedBlob struct {
	data         []byte
	kind, digest string
}

func newGeneratedBlob(data []byte, kind string) generatedBlob {
	return generatedBlob{data, kind, digest(data)}
}

func newGenerated(t *testing.T, layerBytes int) *generated {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	must(t, err)
	g := &generated{layerBytes: layerBytes, program: program, images: map[string]*generatedImage{}, asked: map[string]int{}}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.address = strings.TrimPrefix(server.URL, "http://")
	return g
}

func (g *generated) reference(n int, tag string) string {
	return fmt.Sprintf("%s/gen/%d:%s", g.address, n, tag)
}

func (g *generated) setDown(down bool) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.down = down
}

// count is how often a path with `part` was asked for.
func (g *generated) count(part string) int {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	sum := 0
	for path, n := range g.asked {
		if strings.Contains(path, part) {
			sum += n
		}
	}
	return sum
}

func (g *generated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.asked[r.Method+" "+r.URL.Path]++
	if g.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	if user, password, _ := r.BasicAuth(); g.user != "" && (user != g.user || password != g.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="generated"`)
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/gen/"), "/")
	if len(parts) != 3 {
		w.WriteHeader(http.StatusOK) // /v2/
		return
	}
	image := g.image(parts[0])
	for _, blob := range []generatedBlob{image.manifest, image.config, image.layer} {
		if parts[1] == "manifests" && blob.kind != image.manifest.kind || parts[1] == "blobs" && blob.digest != parts[2] {
			continue
		}
		w.Header().Set("Content-Type", blob.kind)
		w.Header().Set("Docker-Content-Digest", blob.digest)
		if g.slow {
			g.mutex.Unlock()
			defer g.mutex.Lock()
			http.ServeContent(w, r, "", time.Time{}, &slowReader{bytes.NewReader(blob.data), &g.sent})
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(blob.data)))
		_, _ = w.Write(blob.data)
		return
	}
	http.NotFound(w, r)
}

// slowReader is a line of some 20 MB/s.
type slowReader struct {
	*bytes.Reader
	sent *atomic.Int64
}

func (s *slowReader) Read(into []byte) (int, error) {
	time.Sleep(time.Millisecond)
	n, err := s.Reader.Read(into[:min(len(into), 16<<10)])
	s.sent.Add(int64(n))
	return n, err
}

func (s *slowReader) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{s}) }

// image makes the n-th image: the same bytes each time, so that only the last few need be kept.
func (g *generated) image(n string) *generatedImage {
	if image := g.images[n]; image != nil {
		return image
	}
	if len(g.images) == 8 {
		clear(g.images)
	}
	seed, _ := strconv.Atoi(n)
	noise := make([]byte, g.layerBytes)
	_, _ = rand.New(rand.NewSource(int64(seed))).Read(noise)
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"bin/busybox", g.program}, {"noise", noise}} {
		_ = writer.WriteHeader(&tar.Header{Name: file.name, Mode: 0o755, Size: int64(len(file.content))})
		_, _ = writer.Write(file.content)
	}
	_ = writer.Close()
	var layer bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&layer, gzip.BestSpeed)
	_, _ = zip.Write(archive.Bytes())
	_ = zip.Close()
	config, _ := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/bin/busybox"}, "Cmd": []string{"sleep", "600"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(archive.Bytes())}},
	})
	image := &generatedImage{
		layer:  newGeneratedBlob(layer.Bytes(), "application/vnd.oci.image.layer.v1.tar+gzip"),
		config: newGeneratedBlob(config, "application/vnd.oci.image.config.v1+json"),
	}
	descriptor := func(blob generatedBlob) map[string]any {
		return map[string]any{"mediaType": blob.kind, "digest": blob.digest, "size": len(blob.data)}
	}
	manifest, _ := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor(image.config), "layers": []any{descriptor(image.layer)},
	})
	image.manifest = newGeneratedBlob(manifest, "application/vnd.oci.image.manifest.v1+json")
	g.images[n] = image
	return image
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// collected are the messages of a task's events.
func (b *bench) collectEvents() func() string {
	b.t.Helper()
	ctx, cancel := contextFor(5 * time.Minute)
	b.t.Cleanup(cancel)
	channel, err := b.TaskEvents(ctx)
	must(b.t, err)
	var mutex sync.Mutex
	var messages []string
	go func() {
		for event := range channel {
			mutex.Lock()
			messages = append(messages, event.Message)
			mutex.Unlock()
		}
	}()
	return func() string {
		mutex.Lock()
		defer mutex.Unlock()
		return strings.Join(messages, "\n")
	}
}

func waitEvent(t *testing.T, events func() string, text string) {
	t.Helper()
	must(t, eventually(5*time.Second, func() error {
		if all := events(); !strings.Contains(all, text) {
			return fmt.Errorf("no event with %q; there are:\n%s", text, all)
		}
		return nil
	}))
}

// runOnce starts and destroys a task of an image.
func (b *bench) runOnce(config map[string]any) error {
	b.t.Helper()
	task := b.task(config)
	_, _, err := b.StartTask(task.TaskConfig)
	if destroyed := b.DestroyTask(task.ID, true); destroyed != nil {
		b.t.Error(destroyed)
	}
	return err
}

func TestPullPolicies(t *testing.T) {
	registry := newGenerated(t, 100_000)
	b := launch(t, map[string]any{"data_dir": t.TempDir()})
	events := b.collectEvents()
	run := func(n int, tag, policy string) error {
		config := map[string]any{"image": registry.reference(n, tag)}
		if policy != "" {
			config["image_pull_policy"] = policy
		}
		return b.runOnce(config)
	}

	wantError(t, run(1, "1", "never"), "image_pull_policy", "never", "gen/1")
	if n := registry.count("/gen/1/"); n != 0 {
		t.Errorf("policy never asked the registry %d times", n)
	}
	must(t, run(1, "1", ""))
	waitEvent(t, events, "Pulling image "+registry.reference(1, "1"))
	waitEvent(t, events, "Pulled image "+registry.reference(1, "1"))
	before := registry.count("/gen/1/")
	for _, policy := range []string{"", "missing", "never"} {
		must(t, run(1, "1", policy))
	}
	if all := events(); strings.Contains(all, "Using local image") {
		t.Errorf("told what nobody needs to know:\n%s", all)
	}
	if after := registry.count("/gen/1/"); after != before {
		t.Errorf("an image that is here was asked for %d times", after-before)
	}
	must(t, run(1, "1", "always"))
	if looks := registry.count("HEAD /v2/gen/1/manifests/"); looks != 2 {
		t.Errorf("policy always asked %d times", looks)
	}
	if blobs := registry.count("GET /v2/gen/1/blobs/"); blobs != 2 {
		t.Errorf("%d blobs were fetched, want config and layer once", blobs)
	}

	// The tag latest is asked for each time, and the local image serves when nobody answers.
	must(t, run(2, "latest", ""))
	must(t, run(2, "latest", ""))
	if looks := registry.count("HEAD /v2/gen/2/manifests/latest"); looks != 2 {
		t.Errorf("latest was asked for %d times", looks)
	}
	registry.setDown(true)
	must(t, run(2, "latest", ""))
	waitEvent(t, events, "because the registry cannot be asked")
	err := run(2, "latest", "always")
	wantError(t, err, "gen/2")
	if !recoverable(err) {
		t.Errorf("a registry that is down is worth a retry: %v", err)
	}
	wantError(t, b.runOnce(map[string]any{"image": "x", "force_pull": true, "image_pull_policy": "never"}), "contradict")
	wantError(t, b.runOnce(map[string]any{"image": "x", "image_pull_policy": "sometimes"}), "missing, always, never")
}

// A warm start makes no connection at all: it works where there is no network.
func TestWarmStartWithoutNetwork(t *testing.T) {
	registry := newGenerated(t, 1000)
	dir := t.TempDir()
	warm := launch(t, map[string]any{"data_dir": dir})
	must(t, warm.runOnce(map[string]any{"image": registry.reference(1, "1")}))
	b := launchCommand(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	}, map[string]any{"data_dir": dir})
	must(t, b.runOnce(map[string]any{"image": registry.reference(1, "1"), "image_pull_policy": "missing"}))
	wantError(t, b.runOnce(map[string]any{"image": registry.reference(2, "1")}), "gen/2")
}

// 20 tasks start at once from an image that is not here: every blob is fetched once.
func TestTwentyColdStarts(t *testing.T) {
	registry := newGenerated(t, 2_000_000)
	b := launch(t, map[string]any{"data_dir": t.TempDir()})
	tasks := make([]*Task, 20)
	for i := range tasks {
		tasks[i] = b.task(map[string]any{"image": registry.reference(7, "1")})
	}
	inParallel(len(tasks), len(tasks), func(i int) {
		if _, _, err := b.StartTask(tasks[i].TaskConfig); err != nil {
			t.Error(err)
		}
	})
	if blobs := registry.count("GET /v2/gen/7/blobs/"); blobs != 2 {
		t.Errorf("%d blobs were fetched, want config and layer once", blobs)
	}
	inParallel(len(tasks), 8, func(i int) {
		if err := b.DestroyTask(tasks[i].ID, true); err != nil {
			t.Error(err)
		}
	})
}

// A plugin that is killed at any moment of a pull: the next one goes on with what is there.
func TestKillsWhilePulling(t *testing.T) {
	// What a kill may cost: buffers of sockets, which grow where the reader has to wait for its processor, and the helper's.
	// Without going on where it was, a pull would be sent seven times.
	const kills, layerBytes, inFlight = 12, 40_000_000, 4 << 20
	registry := newGenerated(t, layerBytes)
	registry.slow = true
	dir := t.TempDir()
	b := launch(t, map[string]any{"data_dir": dir})
	task := b.task(map[string]any{"image": registry.reference(1, "1")})
	for range kills {
		ended := make(chan error, 1)
		plugin := b.Plugin
		go func() {
			_, _, err := plugin.StartTask(task.TaskConfig)
			ended <- err
		}()
		most := registry.sent.Load() + rand.Int63n(layerBytes/kills)
		must(t, eventually(10*time.Second, func() error {
			if registry.sent.Load() < most && len(ended) == 0 {
				return errors.New("the pull does not go on")
			}
			return nil
		}))
		must(t, b.KillNow())
		if err := <-ended; err == nil {
			t.Fatal("the pull was over too early")
		}
		// One that is still dying has its download locked, and what it left is not cleared away.
		must(t, eventually(20*time.Second, func() error { return noneRuns("containerd-driver-image") }))
		b.relaunch()
	}
	_, _, err := b.StartTask(task.TaskConfig)
	must(t, err)
	total := int64(len(registry.image("1").layer.data))
	t.Logf("%d of %d bytes were sent", registry.sent.Load(), total)
	if most := total + total/10 + kills*inFlight; registry.sent.Load() > most {
		t.Errorf("%d bytes were sent, more than %d", registry.sent.Load(), most)
	}
	left, err := os.ReadDir(filepath.Join(dir, "ingest"))
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left in ingest/: %v", left)
	}
}

func noneRuns(program string) error {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, process := range processes {
		if exe, err := os.Readlink(process + "/exe"); err == nil && filepath.Base(exe) == program {
			return fmt.Errorf("%s still runs as %s", program, process)
		}
	}
	return nil
}

// Images come and go within the limit, those of running tasks stay, and a restart forgets nothing.
func TestImageCollection(t *testing.T) {
	const pulls = 200
	layerBytes, limitMiB := 1_000_000, 24
	if os.Getenv("NIGHTLY") != "" {
		layerBytes, limitMiB = 40_000_000, 1024
	}
	registry := newGenerated(t, layerBytes)
	dir := t.TempDir()
	options := map[string]any{"data_dir": dir,
		"image_gc": map[string]any{"max_size": fmt.Sprintf("%dMiB", limitMiB), "keep_for": "0s"}}
	b := launch(t, options)
	var running []*Task
	var handles []*drivers.TaskHandle
	for n := range 2 {
		task, handle := b.start(map[string]any{"image": registry.reference(n, "1")})
		running, handles = append(running, task), append(handles, handle)
	}
	most := int64(0)
	for n := 2; n < pulls; n++ {
		if n%(pulls/4) == 0 { // three times
			must(t, b.KillNow())
			b.relaunch()
			for _, handle := range handles {
				must(t, b.RecoverTask(stored(handle)))
			}
		}
		must(t, b.runOnce(map[string]any{"image": registry.reference(n, "1")}))
		most = max(most, storeBytes(t, dir))
	}
	// One image more than fits may be there between two collections.
	t.Logf("at most %d MiB of %d", most>>20, limitMiB)
	if most > int64(limitMiB<<20+6*layerBytes) {
		t.Errorf("the store grew to %d bytes", most)
	}
	for n, task := range running {
		info, err := b.InspectTask(task.ID)
		must(t, err)
		if info.State != drivers.TaskStateRunning {
			t.Errorf("task %d is %s", n, info.State)
		}
		before := registry.count(fmt.Sprintf("/gen/%d/", n))
		must(t, b.runOnce(map[string]any{"image": registry.reference(n, "1")}))
		if after := registry.count(fmt.Sprintf("/gen/%d/", n)); after != before {
			t.Errorf("the image of running task %d was removed", n)
		}
	}
}

// storeBytes is what blobs and layers take.
func storeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	sum := int64(0)
	for _, part := range []string{"blobs", "layers"} {
		_ = filepath.Walk(filepath.Join(dir, part), func(_ string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				sum += info.Size()
			}
			return nil
		})
	}
	return sum
}

// A job may bring its image along as a file in its own folders.
func TestImageFromArchive(t *testing.T) {
	folder := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		out, err := exec.Command("skopeo", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo %v: %v\n%s", args, err, out)
		}
	}
	source := "docker://" + image("library/busybox:latest")
	run("copy", "-q", "--src-tls-verify=false", source, "docker-archive:"+folder+"/docker.tar:app:1")
	run("copy", "-q", "--src-tls-verify=false", source, "oci-archive:"+folder+"/oci.tar:app")
	run("copy", "-q", "--src-tls-verify=false", source, "oci:"+folder+"/layout:app")

	b := launch(t, map[string]any{"data_dir": t.TempDir()})
	for name, reference := range map[string]string{
		"docker save":  "docker-archive:local/docker.tar",
		"by name":      "docker-archive:local/docker.tar:app:1",
		"OCI archive":  "oci-archive:local/oci.tar",
		"OCI layout":   "oci:local/layout",
		"on the host":  "docker-archive:" + folder + "/docker.tar",
		"through link": "docker-archive:local/link.tar",
	} {
		t.Run(name, func(t *testing.T) {
			task := b.task(map[string]any{"image": reference, "command": "/bin/echo", "args": []string{"fine"}})
			local := filepath.Join(task.root, task.Name, "local")
			out, err := exec.Command("cp", "-r", folder+"/.", local).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			must(t, os.Symlink("/local/docker.tar", filepath.Join(local, "link.tar"))) // as the task would see it
			_, _, err = b.StartTask(task.TaskConfig)
			must(t, err)
			if result := b.wait(task); !result.Successful() {
				t.Errorf("%+v", result)
			}
			wantText(t, task.Stdout.String(), "fine")
		})
	}
	for reference, words := range map[string][]string{
		"docker-archive:local/nosuch.tar":             {"local/nosuch.tar", "does not exist"},
		"docker-archive:../../../../../etc/passwd":    {"etc/passwd", "not in a folder of the task's own"},
		"docker-archive:" + folder + "/oci.tar:other": {"no image other", "app"},
		"docker-archive:/etc/passwd":                  {"not an image archive"},
		"oci:":                                        {"no path"},
	} {
		wantError(t, b.runOnce(map[string]any{"image": reference}), words...)
	}
}

// The first start after a boot verifies the store, clears up what was cut off, and notes that it has.
func TestStoreIsVerifiedAfterBoot(t *testing.T) {
	registry := newGenerated(t, 1000)
	dir := t.TempDir()
	marker := filepath.Join(t.TempDir(), "checked-boot")
	options := map[string]any{"data_dir": dir, "state_dir": filepath.Dir(marker)}
	first := launch(t, options)
	must(t, first.runOnce(map[string]any{"image": registry.reference(1, "1")}))
	must(t, os.WriteFile(marker, []byte("another boot "+dir+"\n"), 0o600))
	left := filepath.Join(dir, "ingest", "layers-1-0")
	gone := func() error {
		if _, err := os.Stat(left); err == nil {
			return fmt.Errorf("%s is there", left)
		}
		return nil
	}
	must(t, os.Mkdir(left, 0o700))
	ctx, cancel := contextFor(time.Minute)
	defer cancel()
	_, err := launch(t, options).Fingerprint(ctx) // an agent always has this stream; it starts the housekeeping
	must(t, err)
	must(t, eventually(10*time.Second, gone))
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	must(t, eventually(10*time.Second, func() error {
		noted, err := os.ReadFile(marker)
		if err != nil || string(noted) != strings.TrimSpace(string(boot))+" "+dir+"\n" {
			return fmt.Errorf("checked-boot says %q: %v", noted, err)
		}
		return nil
	}))
}
