package harness

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ManyBench measures a plugin with many tasks: what it costs to watch them, and to end them all at once.
type ManyBench struct {
	Plugin *Plugin
	Dir    string
	Image  string
	Mark   string
	tasks  []*Task
}

// ManyResult is what a run found.
type ManyResult struct {
	Idle, Watching Usage
	CPU            float64 // share of one core while the samples were sent, in percent
	Samples        int     // that came
	StopAll        time.Duration
}

// Run starts `count` tasks, reads the statistics of each every second for `long`, and stops and destroys all at once.
func (b *ManyBench) Run(count int, long time.Duration) (ManyResult, error) {
	var result ManyResult
	defer b.remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := b.Plugin.Fingerprint(ctx); err != nil { // an agent always has this stream
		return result, err
	}
	if err := b.start(count); err != nil {
		return result, err
	}
	result.Idle = b.settled()
	if err := b.watch(long, &result); err != nil {
		return result, err
	}
	begin := time.Now()
	err := b.each(count, func(task *Task) error {
		if err := b.Plugin.StopTask(task.ID, 20*time.Second, ""); err != nil {
			return err
		}
		return b.Plugin.DestroyTask(task.ID, false)
	})
	result.StopAll = time.Since(begin)
	return result, err
}

func (b *ManyBench) start(count int) error {
	for range count {
		task, err := b.Plugin.NewTask(b.Dir, newAllocID(b.Mark), map[string]any{"image": b.Image})
		if err != nil {
			return err
		}
		b.tasks = append(b.tasks, task)
	}
	return b.each(4, func(task *Task) error {
		if _, _, err := b.Plugin.StartTask(task.TaskConfig); err != nil {
			return err
		}
		return task.Stdout.WaitFor("started", 30*time.Second)
	})
}

// watch subscribes to all tasks' statistics and counts the plugin's CPU time from the second sample on.
func (b *ManyBench) watch(long time.Duration, result *ManyResult) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var group sync.WaitGroup
	var mutex sync.Mutex
	for _, task := range b.tasks {
		channel, err := b.Plugin.TaskStats(ctx, task.ID, time.Second)
		if err != nil {
			return err
		}
		group.Add(1)
		go func() {
			defer group.Done()
			for range channel {
				mutex.Lock()
				result.Samples++
				mutex.Unlock()
			}
		}()
	}
	time.Sleep(2 * time.Second) // streams are open, files too
	begin, used := time.Now(), b.cpu()
	mutex.Lock()
	result.Samples = 0
	mutex.Unlock()
	time.Sleep(long)
	result.Watching = b.Plugin.Usage()
	result.CPU = (b.cpu() - used).Seconds() / time.Since(begin).Seconds() * 100
	mutex.Lock()
	samples := result.Samples
	mutex.Unlock()
	cancel()
	group.Wait()
	result.Samples = samples
	return nil
}

// cpu is the CPU time of all threads that the plugin has or had.
func (b *ManyBench) cpu() time.Duration {
	const ticksPerSecond = 100 // USER_HZ
	text := string(readFile(fmt.Sprintf("/proc/%d", b.Plugin.Pid), "stat"))
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const user, system = 11, 12
	var ticks int64
	for _, field := range []int{user, system} {
		n, _ := strconv.ParseInt(fields[field], 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// settled waits for the plugin's next look at the node, every 30 s, when it also tidies its memory.
func (b *ManyBench) settled() Usage {
	time.Sleep(35 * time.Second)
	return b.Plugin.Usage()
}

// each calls `work` for all tasks, at most `width` at a time.
func (b *ManyBench) each(width int, work func(*Task) error) error {
	slots := make(chan struct{}, width)
	failures := make([]error, len(b.tasks))
	var group sync.WaitGroup
	for i, task := range b.tasks {
		slots <- struct{}{}
		group.Add(1)
		go func() {
			defer group.Done()
			failures[i] = work(task)
			<-slots
		}()
	}
	group.Wait()
	return errors.Join(failures...)
}

func (b *ManyBench) remove() {
	_ = b.each(8, func(task *Task) error { return b.Plugin.DestroyTask(task.ID, true) })
	for _, task := range b.tasks {
		task.Remove()
	}
}
