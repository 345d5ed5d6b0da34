package harness

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// CrowdBench starts and stops many tasks, many at once, beside a canary: a task that writes the time ten times a second.
type CrowdBench struct {
	Plugin *Plugin
	Dir    string
	Image  string
	Mark   string
}

// CrowdResult is what a run found.
type CrowdResult struct {
	Failures int
	Total    time.Duration
	Median   time.Duration // of a start
	Longest  time.Duration
	Latest   time.Duration // that a beat of the canary came behind its time
}

const crowdAtOnce = 100
const beat = 100 * time.Millisecond

// Run starts and stops `count` tasks.
func (b *CrowdBench) Run(count int) (CrowdResult, error) {
	var result CrowdResult
	line := fmt.Sprintf("while true; do cut -d ' ' -f 1 /proc/uptime; sleep %.1f; done", beat.Seconds())
	canary, err := b.task(line)
	if err != nil {
		return result, err
	}
	defer b.remove(canary)
	if _, _, err := b.Plugin.StartTask(canary.TaskConfig); err != nil {
		return result, err
	}
	if err := canary.Stdout.WaitFor("\n", 10*time.Second); err != nil {
		return result, err
	}
	var starts []time.Duration
	begin := time.Now()
	for done := 0; done < count; done += crowdAtOnce {
		took, failures := b.round(min(crowdAtOnce, count-done))
		starts = append(starts, took...)
		result.Failures += failures
	}
	result.Total = time.Since(begin)
	if len(starts) == 0 {
		return result, fmt.Errorf("nothing started")
	}
	sort.Slice(starts, func(i, j int) bool { return starts[i] < starts[j] })
	result.Median, result.Longest = starts[len(starts)/2], starts[len(starts)-1]
	result.Latest = latestBeat(canary.Stdout.String())
	return result, nil
}

// round starts `count` tasks at once, then stops and removes all of them at once; it returns what each start took.
func (b *CrowdBench) round(count int) ([]time.Duration, int) {
	var mutex sync.Mutex
	var starts []time.Duration
	var running []*Task
	failures := 0
	note := func(err error) bool {
		mutex.Lock()
		defer mutex.Unlock()
		if err != nil {
			failures++
			fmt.Println(err)
		}
		return err == nil
	}
	inParallel(count, count, func(int) {
		task, err := b.task("exec sleep 600")
		if !note(err) {
			return
		}
		begin := time.Now()
		_, _, err = b.Plugin.StartTask(task.TaskConfig)
		took := time.Since(begin)
		if !note(err) {
			task.Remove()
			return
		}
		mutex.Lock()
		defer mutex.Unlock()
		starts, running = append(starts, took), append(running, task)
	})
	inParallel(len(running), len(running), func(i int) {
		note(b.Plugin.StopTask(running[i].ID, 0, "SIGKILL"))
		note(b.Plugin.DestroyTask(running[i].ID, false))
		running[i].Remove()
	})
	return starts, failures
}

func (b *CrowdBench) task(line string) (*Task, error) {
	return b.Plugin.NewTask(b.Dir, newAllocID(b.Mark), map[string]any{"image": b.Image, "command": "/bin/sh", "args": []string{"-c", line}})
}

func (b *CrowdBench) remove(task *Task) {
	_ = b.Plugin.DestroyTask(task.ID, true)
	task.Remove()
}

// latestBeat is the longest time between two lines (seconds since the boot), less a beat.
func latestBeat(lines string) time.Duration {
	var latest, last float64
	for _, line := range strings.Fields(lines) {
		now, err := strconv.ParseFloat(line, 64)
		if err != nil {
			continue
		}
		if last > 0 && now-last > latest {
			latest = now - last
		}
		last = now
	}
	return time.Duration(latest*float64(time.Second)) - beat
}
