package harness

import (
	"testing"

	"github.com/hashicorp/nomad/plugins/drivers"
)

func TestUlimits(t *testing.T) {
	b := launch(t)
	open := "ulimit -Sn; ulimit -Hn"
	wantText(t, b.output(open, map[string]any{"ulimit": []map[string]any{{"nofile": "100:200"}}}), "100\n200\n")
	wantText(t, b.output(open, map[string]any{"file_limit": 300}), "300\n300\n")
	wantText(t, b.output("ulimit -Sc; ulimit -Hc", map[string]any{"ulimit": []map[string]any{{"core": "0"}}}), "0\n0\n")
	wantText(t, b.output("grep 'open files' /proc/self/limits", nil), " 1024 ")
	b.refuses(map[string]any{"ulimit": []map[string]any{{"nofile": "99999999999"}}}, "nofile", "99999999999")
	b.refuses(map[string]any{"ulimit": []map[string]any{{"nofile": "2:1"}}}, "ulimit.nofile")
	b.refuses(map[string]any{"file_limit": 5, "ulimit": []map[string]any{{"nofile": "6"}}}, "file_limit")
}

func TestOomScore(t *testing.T) {
	b := launch(t)
	wantText(t, b.output("cat /proc/self/oom_score_adj", nil), "0\n")
	wantText(t, b.output("cat /proc/self/oom_score_adj", map[string]any{"oom_score_adj": 500}), "500\n")
	b.refuses(map[string]any{"oom_score_adj": -500}, "oom_score_adj", "-500")
}

func TestCPUOptions(t *testing.T) {
	b := launch(t)
	quota := "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max"
	share := func(c *drivers.TaskConfig) { c.Resources.LinuxResources.PercentTicks = 0.25 }
	out := b.output("nproc > /tmp/n; "+quota, map[string]any{"cpu_hard_limit": true, "cpu_cfs_period": 50000}, share)
	wantText(t, out, "50000")
	wantText(t, b.output("grep Cpus_allowed_list /proc/self/status", map[string]any{"cpuset_cpus": "0"}), "\t0\n")
	b.refuses(map[string]any{"cpuset_cpus": "zero"}, "cpuset_cpus", "zero")
}

func TestMemoryOptions(t *testing.T) {
	b := launch(t)
	// The names of cgroup v1; the values on v2 are those of the golden specs.
	read := "cd /sys/fs/cgroup/memory 2>/dev/null || exit 0; cat memory.limit_in_bytes memory.soft_limit_in_bytes memory.swappiness"
	out := b.output(read, map[string]any{"memory_hard_limit": 512, "memory_reservation": "64m", "memory_swappiness": 10})
	if out != "" {
		wantText(t, out, "536870912\n67108864\n10\n")
	}
	b.refuses(map[string]any{"memory_swap": "1m"}, "memory_swap")
	b.refuses(map[string]any{"memory_reservation": "1t"}, "memory_reservation")
	b.refuses(map[string]any{"storage_opt": []map[string]any{{"size": "1G"}}}, "storage_opt")
}
