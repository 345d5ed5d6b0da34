package harness

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Leftovers lists everything on this machine that carries one of `marks` (the run's folder, the first part of its
// allocation ids): processes, mounts, network namespaces, cgroups. Other users of the machine do not disturb it.
func Leftovers(ignorePids []int, marks ...string) []string {
	var found []string
	ignored := map[int]bool{os.Getpid(): true}
	for _, pid := range ignorePids {
		ignored[pid] = true
	}
	found = append(found, processes(ignored, marks)...)
	found = append(found, mounts(marks)...)
	found = append(found, named("/run/netns", "network namespace", marks)...)
	found = append(found, cgroups(marks)...)
	sort.Strings(found)
	return found
}

// processes finds a shim by its command line and working folder, a task by its environment, its cgroup, and its root.
func processes(ignored map[int]bool, marks []string) []string {
	var found []string
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || ignored[pid] {
			continue
		}
		dir := filepath.Join("/proc", entry.Name())
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		text := bytes.Join([][]byte{
			readFile(dir, "cmdline"), readFile(dir, "environ"), readFile(dir, "cgroup"), []byte(cwd), rootMount(dir),
		}, []byte("\n"))
		if containsAny(string(text), marks) {
			command := strings.TrimSpace(string(bytes.ReplaceAll(readFile(dir, "cmdline"), []byte{0}, []byte(" "))))
			found = append(found, fmt.Sprintf("process %d %s (%s)", pid, readFile(dir, "comm"), command))
		}
	}
	return found
}

// rootMount is the line of the process's own root: an overlay of our layers for a task.
func rootMount(dir string) []byte {
	line, _, _ := bytes.Cut(readFile(dir, "mountinfo"), []byte("\n"))
	if fields := bytes.Fields(line); len(fields) > 4 && string(fields[4]) == "/" {
		return line
	}
	return nil
}

func mounts(marks []string) []string {
	var found []string
	scanner := bufio.NewScanner(bytes.NewReader(readFile("/proc/self", "mountinfo")))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if fields := strings.Fields(scanner.Text()); len(fields) > 4 && containsAny(fields[4], marks) {
			found = append(found, "mount "+fields[4])
		}
	}
	return found
}

func named(dir, kind string, marks []string) []string {
	var found []string
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if containsAny(entry.Name(), marks) {
			found = append(found, kind+" "+entry.Name())
		}
	}
	return found
}

func cgroups(marks []string) []string {
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && containsAny(entry.Name(), marks) {
			found = append(found, "cgroup "+path)
		}
		return nil // a cgroup may vanish while we walk
	})
	return found
}

// Files lists the paths below the given folders, without the image store's own (blobs and layers stay, by design).
func Files(dirs ...string) []string {
	var found []string
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			name, _ := filepath.Rel(dir, path)
			if entry.IsDir() && (name == "blobs" || name == "layers") {
				return fs.SkipDir
			}
			found = append(found, path)
			return nil
		})
	}
	return found
}

// Usage is what a plugin process holds.
type Usage struct {
	RSS     int // KiB
	Threads int
	FDs     int
}

func (p *Plugin) Usage() Usage {
	dir := fmt.Sprintf("/proc/%d", p.Pid)
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	return Usage{RSS: statusField(dir, "VmRSS:"), Threads: statusField(dir, "Threads:"), FDs: len(fds)}
}

func statusField(dir, name string) int {
	for _, line := range strings.Split(string(readFile(dir, "status")), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

func readFile(dir, name string) []byte {
	data, _ := os.ReadFile(filepath.Join(dir, name))
	return bytes.TrimRight(data, "\n")
}

func containsAny(text string, marks []string) bool {
	for _, mark := range marks {
		if strings.Contains(text, mark) {
			return true
		}
	}
	return false
}
