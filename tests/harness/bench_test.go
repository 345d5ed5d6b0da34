package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// benchStart is tests/bench/start. What lies in /run on a node, the plugin's and runc's, is in a tmpfs here, too; images
// and writable layers are on the disk.
func benchStart(rounds int) error {
	dir, err := os.MkdirTemp("/dev/shm", "cd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("CONTAINERD_DRIVER_LOG_LEVEL", "debug"); err != nil {
		return err
	}
	plugin, err := Launch(*driverFlag, pluginConfig(filepath.Join(dir, "run")))
	if err != nil {
		return err
	}
	defer plugin.Close()
	bench := &StartBench{Plugin: plugin, Dir: dir, Image: image("library/busybox:latest"), Mark: mark}
	if err := bench.Run(rounds); err != nil {
		return fmt.Errorf("%w\nlog of the plugin:\n%s", err, plugin.Log)
	}
	// Idle: nothing in flight; threads that wait for more work have had time to end.
	idle := plugin.Usage()
	_ = eventually(5*time.Second, func() error {
		if idle = plugin.Usage(); idle.Threads > 8 {
			return fmt.Errorf("%d threads", idle.Threads)
		}
		return nil
	})
	fmt.Printf("%d rounds; milliseconds\n", rounds)
	fmt.Printf("%-58s %9s %9s %9s %9s\n", "", "p50", "p95", "runc p50", "ratio")
	fmt.Println(bench.Row("StartTask | runc create + runc start", "start", "runc start"))
	fmt.Println(bench.Row("StartTask called to first output | the same", "start to first", "runc start to first"))
	fmt.Println(bench.Row("first output after StartTask returned", "first", ""))
	fmt.Println(bench.Row("of StartTask: finding the image in the store", "image", ""))
	fmt.Println(bench.Row("StartTask that asks the registry first | one that does not", "start that asks", "start"))
	fmt.Println(bench.Row("StopTask, task exits on SIGTERM | runc kill + runc delete", "stop", "runc stop"))
	fmt.Println(bench.Row("exit of the process to WaitTask's answer", "exit to wait", ""))
	fmt.Println(bench.Row("DestroyTask", "destroy", ""))
	fmt.Printf("idle plugin: %.1f MiB resident, %d threads, %d descriptors\n",
		float64(idle.RSS)/1024, idle.Threads, idle.FDs)
	return nil
}

func benchMany(count int) error {
	dir := filepath.Join(baseDir, "many")
	plugin, err := Launch(*driverFlag, pluginConfig(filepath.Join(dir, "run")))
	if err != nil {
		return err
	}
	defer plugin.Close()
	empty := plugin.Usage()
	bench := &ManyBench{Plugin: plugin, Dir: dir, Image: image("library/probe:latest"), Mark: mark}
	result, err := bench.Run(count, 20*time.Second)
	if err != nil {
		return fmt.Errorf("%w\nlog of the plugin:\n%s", err, plugin.Log)
	}
	fmt.Printf("%d tasks, statistics of each every second: %.2f %% of a core (%d samples in 20 s)\n", count, result.CPU, result.Samples)
	for _, row := range []struct {
		name  string
		usage Usage
	}{{"no task", empty}, {fmt.Sprintf("%d tasks", count), result.Idle}, {"and their statistics", result.Watching}} {
		fmt.Printf("plugin with %-22s %.1f MiB resident, %d threads, %d descriptors\n", row.name+":",
			float64(row.usage.RSS)/1024, row.usage.Threads, row.usage.FDs)
	}
	fmt.Printf("stop and destroy of all %d at once: %.2f s\n", count, result.StopAll.Seconds())
	return nil
}

// benchCrowd is tests/bench/crowd: first as it was without turns, then as it is.
func benchCrowd(count int) error {
	fmt.Printf("%d starts and stops, %d at once; seconds\n", count, crowdAtOnce)
	fmt.Printf("%-16s %9s %9s %9s %9s %14s\n", "", "failures", "in all", "median", "longest", "canary behind")
	for _, kind := range []struct {
		name   string
		atOnce int
	}{{"all at once", 10_000}, {"in turns", 0}} {
		dir := filepath.Join(baseDir, "crowd")
		config := pluginConfig(filepath.Join(dir, "run"))
		config["starts_at_once"] = kind.atOnce
		plugin, err := Launch(*driverFlag, config)
		if err != nil {
			return err
		}
		bench := &CrowdBench{Plugin: plugin, Dir: dir, Image: image("library/busybox:latest"), Mark: mark}
		result, err := bench.Run(count)
		plugin.Close()
		if err != nil {
			return fmt.Errorf("%w\nlog of the plugin:\n%s", err, plugin.Log)
		}
		fmt.Printf("%-16s %9d %9.1f %9.2f %9.2f %14.2f\n", kind.name, result.Failures, result.Total.Seconds(),
			result.Median.Seconds(), result.Longest.Seconds(), result.Latest.Seconds())
	}
	return nil
}
