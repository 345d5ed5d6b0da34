package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A VOLUME of an image is a folder of the task's own: with the image's content and owner, no part of the overlay, to be
// written to even in a read-only root, and gone with the task (launch checks that).
func TestImageVolumes(t *testing.T) {
	b := launch(t)
	redis := map[string]any{"image": image("library/redis:alpine"), "entrypoint": []string{"/bin/sh", "-c"}}
	run := func(line string, more map[string]any) string {
		t.Helper()
		all := map[string]any{"command": line, "readonly_rootfs": true}
		for _, options := range []map[string]any{redis, more} {
			for key, value := range options {
				all[key] = value
			}
		}
		return b.output(line, all)
	}
	out := run("stat -c '%u %a' /data; touch /data/x && echo written; touch /x 2>&1 || true; grep ' /data ' /proc/self/mounts", nil)
	wantText(t, out, "999 755\n", "written\n", "Read-only file system", " /data ")
	if strings.Contains(out, "overlay /data") {
		t.Errorf("the volume is in the overlay: %s", out)
	}

	// Each task has its own, and what the job mounts there comes first.
	wantText(t, run("ls -A /data | wc -l", nil), "0\n")
	host := filepath.Join(b.dir, "host")
	must(t, os.MkdirAll(host, 0o755))
	must(t, os.WriteFile(filepath.Join(host, "mine"), nil, 0o644))
	wantText(t, run("ls /data", map[string]any{"volumes": []string{host + ":/data"}}), "mine\n")
}
