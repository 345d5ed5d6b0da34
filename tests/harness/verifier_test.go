package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAllowedRegistries(t *testing.T) {
	b := launch(t, map[string]any{"allowed_registries": []string{registry + "/library", "*.example.com"}})
	b.refuses(map[string]any{"image": "redis:7"}, "docker.io/library/redis:7", "allowed_registries", "*.example.com")
	b.refuses(map[string]any{"image": registry + "/libraryx/busybox"}, "allowed_registries")
	b.refuses(map[string]any{"image": "docker-archive:local/a.tar"}, "docker-archive", "allowed_registries")
	wantText(t, b.output("echo fine", nil), "fine\n")
}

func TestAllowedFiles(t *testing.T) {
	files := launch(t, map[string]any{"allowed_registries": []string{"oci-archive"}})
	files.refuses(map[string]any{"image": image("library/busybox:latest")}, "allowed_registries")
	_, _, err := files.StartTask(files.task(map[string]any{"image": "oci-archive:local/nosuch.tar"}).TaskConfig)
	wantError(t, err, "local/nosuch.tar", "does not exist") // past the gate
}

func TestRequireDigest(t *testing.T) {
	generated := newGenerated(t, 1000)
	b := launch(t, map[string]any{"data_dir": t.TempDir(), "require_digest": true})
	b.refuses(map[string]any{"image": generated.reference(1, "1")}, "gen/1:1", "require_digest", "@sha256:")
	b.refuses(map[string]any{"image": "docker-archive:local/a.tar"}, "require_digest")
	if n := generated.count("gen"); n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
	pinned := fmt.Sprintf("%s/gen/1@%s", generated.address, generated.image("1").manifest.digest)
	must(t, b.runOnce(map[string]any{"image": pinned}))
}

// A verifier for each task: what it says decides, before a byte of a layer is fetched, and again for what is here.
func TestImageVerifier(t *testing.T) {
	generated := newGenerated(t, 1000)
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	must(t, os.Mkdir(bin, 0o755))
	verifier := func(name, body string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	}
	asked := func() int {
		data, _ := os.ReadFile(filepath.Join(dir, "asked"))
		return strings.Count(string(data), "\n")
	}
	verifier("10-note", fmt.Sprintf("echo \"$@\" >> %s/asked; cat >> %s/stdin; echo signed by the test", dir, dir))
	options := map[string]any{"data_dir": filepath.Join(dir, "data"),
		"image_verifier": map[string]any{"bin_dir": bin, "max_verifiers": 2, "per_verifier_timeout": "1s"}}
	b := launch(t, options)
	events := b.collectEvents()

	first := generated.reference(1, "1")
	task, _ := b.start(map[string]any{"image": first})
	waitEvent(t, events, "verified by 10-note: signed by the test")
	info, err := b.InspectTask(task.ID)
	must(t, err)
	manifest := generated.image("1").manifest.digest
	for key, want := range map[string]string{"image_verified": "10-note: signed by the test", "image_digest": manifest,
		"image_resolved_digest": manifest, "image_platform": "linux/"} {
		if got := info.DriverAttributes[key]; !strings.HasPrefix(got, want) {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	for _, key := range []string{"image_size", "image_pulled_at"} {
		if info.DriverAttributes[key] == "" {
			t.Errorf("InspectTask has no attribute %q: %v", key, info.DriverAttributes)
		}
	}
	must(t, b.DestroyTask(task.ID, true))
	line, err := os.ReadFile(filepath.Join(dir, "asked"))
	must(t, err)
	wantText(t, string(line), "-name "+first, "-digest "+manifest, "-stdin-media-type application/vnd.oci.descriptor.v1+json")
	descriptor, err := os.ReadFile(filepath.Join(dir, "stdin"))
	must(t, err)
	wantText(t, string(descriptor), manifest, `"size":`)

	// Its word counts for as long as the programs are the same, also after a restart.
	must(t, b.runOnce(map[string]any{"image": first}))
	must(t, launch(t, options).runOnce(map[string]any{"image": first}))
	if n := asked(); n != 1 {
		t.Errorf("asked %d times about one image", n)
	}
	for _, test := range []struct {
		name, body string
		retried    bool
		words      []string
	}{
		{"20-no", "echo not signed; exit 3", false, []string{"refused by image verifier 20-no", "exit code 3", "not signed"}},
		{"20-slow", "sleep 1000", true, []string{"20-slow gave no answer", "within 1s", "per_verifier_timeout"}},
		{"20-dies", "kill -SEGV $$", true, []string{"20-dies was killed by SIGSEGV"}},
		{"20-flood", "head -c 9000000 /dev/zero | tr '\\0' y; exit 1", false, []string{"20-flood", "yyy"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			verifier(test.name, test.body)
			defer os.Remove(filepath.Join(bin, test.name))
			for _, image := range []string{first, generated.reference(2, "1")} {
				err := b.runOnce(map[string]any{"image": image})
				wantError(t, err, append(test.words, image[strings.Index(image, "/"):])...)
				if recoverable(err) != test.retried {
					t.Errorf("retried: %v; %v", recoverable(err), err)
				}
			}
			if blobs := generated.count("/gen/2/blobs/"); blobs != 0 {
				t.Errorf("%d blobs of a refused image were fetched", blobs)
			}
		})
	}
	// Whatever is wrong with the folder: nothing is let in.
	for name, spoil := range map[string]func() (undo func()){
		"10-note is not executable": func() func() {
			must(t, os.Chmod(filepath.Join(bin, "10-note"), 0o644))
			return func() { must(t, os.Chmod(filepath.Join(bin, "10-note"), 0o755)) }
		},
		"written to by others": func() func() {
			must(t, os.Chmod(bin, 0o777))
			return func() { must(t, os.Chmod(bin, 0o755)) }
		},
		"max_verifiers = 2": func() func() {
			verifier("20-b", "exit 0")
			verifier("30-c", "exit 0")
			return func() { os.Remove(filepath.Join(bin, "20-b")); os.Remove(filepath.Join(bin, "30-c")) }
		},
		"is empty": func() func() {
			must(t, os.Rename(filepath.Join(bin, "10-note"), filepath.Join(dir, "10-note")))
			return func() { must(t, os.Rename(filepath.Join(dir, "10-note"), filepath.Join(bin, "10-note"))) }
		},
	} {
		undo := spoil()
		err := b.runOnce(map[string]any{"image": first})
		wantError(t, err, name)
		if recoverable(err) {
			t.Errorf("%s is retried: %v", name, err)
		}
		p, startErr := Start(*driverFlag)
		must(t, startErr)
		config := pluginConfig(filepath.Join(b.dir, "never"))
		for key, value := range options {
			config[key] = value
		}
		wantError(t, p.Configure(config), name)
		p.Close()
		undo()
	}
	must(t, b.runOnce(map[string]any{"image": first}))
}

// 20 starts of one cold image ask once; a warm one asks nobody, and needs no network for it.
func TestImageVerifierIsAskedOnce(t *testing.T) {
	generated := newGenerated(t, 200_000)
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	must(t, os.Mkdir(bin, 0o755))
	must(t, os.WriteFile(filepath.Join(bin, "note"), []byte("#!/bin/sh\necho x >> "+dir+"/asked\n"), 0o755))
	options := map[string]any{"data_dir": filepath.Join(dir, "data"), "image_verifier": map[string]any{"bin_dir": bin}}
	b := launch(t, options)
	inParallel(20, 20, func(int) {
		if err := b.runOnce(map[string]any{"image": generated.reference(3, "1")}); err != nil {
			t.Error(err)
		}
	})
	if asked, _ := os.ReadFile(filepath.Join(dir, "asked")); string(asked) != "x\n" {
		t.Errorf("asked: %q", asked)
	}
	alone := launchCommand(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	}, options)
	must(t, alone.runOnce(map[string]any{"image": generated.reference(3, "1")}))
	if asked, _ := os.ReadFile(filepath.Join(dir, "asked")); string(asked) != "x\n" {
		t.Errorf("asked after a restart: %q", asked)
	}
}

// An archive says its own name, so it is asked about under that; and it cannot take that of a digest.
func TestImageVerifierAndArchives(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	must(t, os.Mkdir(bin, 0o755))
	script := "#!/bin/sh\necho \"$2\" >> " + dir + "/asked\ncase $2 in */good:*) ;; *) echo unknown name; exit 1;; esac\n"
	must(t, os.WriteFile(filepath.Join(bin, "names"), []byte(script), 0o755))
	source := "docker://" + image("library/busybox:latest")
	for _, name := range []string{"good", "bad"} {
		out, err := exec.Command("skopeo", "copy", "-q", "--src-tls-verify=false", source,
			"docker-archive:"+dir+"/"+name+".tar:example.com/"+name+":1").CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo: %v\n%s", err, out)
		}
	}
	data := filepath.Join(dir, "data")
	b := launch(t, map[string]any{"data_dir": data, "image_verifier": map[string]any{"bin_dir": bin}})
	must(t, b.runOnce(map[string]any{"image": "docker-archive:" + dir + "/good.tar", "command": "/bin/true"}))
	err := b.runOnce(map[string]any{"image": "docker-archive:" + dir + "/bad.tar", "command": "/bin/true"})
	wantError(t, err, "example.com/bad:1", "refused by image verifier names", "unknown name")
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	must(t, err)
	wantText(t, string(asked), "example.com/good:1\n", "example.com/bad:1\n")
}
