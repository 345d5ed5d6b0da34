// Package harness launches the containerd-driver binary as a Nomad agent does, through go-plugin, and calls it
// through Nomad's own client stubs.
package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/nomad/client/lib/numalib"
	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"github.com/zclconf/go-cty/cty/msgpack"
)

// Plugin is one running instance of the binary, configured and ready for StartTask.
type Plugin struct {
	drivers.DriverPlugin
	Pid    int
	Config map[string]any
	Log    *syncBuffer

	client     *plugin.Client
	cmd        *exec.Cmd
	taskSchema hcldec.Spec
}

// Start launches `binary` and stops before SetConfig. `prepare` may change the command.
func Start(binary string, prepare ...func(*exec.Cmd)) (*Plugin, error) {
	p := &Plugin{Log: &syncBuffer{}}
	p.cmd = exec.Command(binary)
	p.cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, name := range []string{"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "CONTAINERD_DRIVER_LOG_LEVEL"} {
		if value := os.Getenv(name); value != "" {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	for _, change := range prepare {
		change(p.cmd)
	}
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: p.Log, JSONFormat: true})
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  base.Handshake,
		Plugins:          plugins(logger),
		Cmd:              p.cmd,
		SkipHostEnv:      true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           logger,
	})
	if err := p.dispense(); err != nil {
		p.client.Kill()
		return nil, fmt.Errorf("%w; its log:\n%s", err, p.Log)
	}
	p.Pid = p.cmd.Process.Pid
	return p, nil
}

// Launch is Start and SetConfig, with the calls and the arguments of an agent.
func Launch(binary string, config map[string]any, prepare ...func(*exec.Cmd)) (*Plugin, error) {
	p, err := Start(binary, prepare...)
	if err != nil {
		return nil, err
	}
	if err := p.Configure(config); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Configure sends `config` (as decoded HCL) through the plugin's own schema.
func (p *Plugin) Configure(config map[string]any) error {
	p.Config = config
	schema, err := p.ConfigSchema()
	if err != nil {
		return fmt.Errorf("ConfigSchema: %w", err)
	}
	data, err := encode(schema, config)
	if err != nil {
		return err
	}
	err = p.SetConfig(&base.Config{
		ApiVersion:   drivers.ApiVersion010,
		PluginConfig: data,
		AgentConfig: &base.AgentConfig{Driver: &base.ClientDriverConfig{
			ClientMinPort: 14000,
			ClientMaxPort: 14512,
			Topology:      numalib.Scan(numalib.PlatformScanners(true)),
		}},
	})
	if err != nil {
		return fmt.Errorf("SetConfig: %w", err)
	}
	schema, err = p.TaskConfigSchema()
	if err != nil {
		return fmt.Errorf("TaskConfigSchema: %w", err)
	}
	spec, diags := hclspecutils.Convert(schema)
	if diags.HasErrors() {
		return fmt.Errorf("TaskConfigSchema: %w", diags)
	}
	p.taskSchema = spec
	return nil
}

// Close ends the plugin as an agent does on a graceful stop: tasks go on.
func (p *Plugin) Close() {
	p.client.Kill()
}

// KillNow is kill -9 of the plugin, and returns when it is gone.
func (p *Plugin) KillNow() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	return eventually(10*time.Second, func() error {
		if !p.client.Exited() {
			return errors.New("the killed plugin does not exit")
		}
		return nil
	})
}

func (p *Plugin) dispense() error {
	rpc, err := p.client.Client()
	if err != nil {
		return err
	}
	raw, err := rpc.Dispense(base.PluginTypeDriver)
	if err != nil {
		return err
	}
	p.DriverPlugin = raw.(drivers.DriverPlugin)
	return nil
}

func plugins(logger hclog.Logger) map[string]plugin.Plugin {
	return map[string]plugin.Plugin{
		base.PluginTypeBase:   &base.PluginBase{},
		base.PluginTypeDriver: drivers.NewDriverPlugin(nil, logger),
	}
}

// encode turns decoded HCL into what the agent sends: through the schema, so that its defaults apply.
func encode(schema *hclspec.Spec, config map[string]any) ([]byte, error) {
	spec, diags := hclspecutils.Convert(schema)
	if diags.HasErrors() {
		return nil, fmt.Errorf("bad schema: %w", diags)
	}
	value, _, errs := hclutils.ParseHclInterface(config, spec, nil)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return msgpack.Marshal(value, value.Type())
}

// patience is by how much a limit is exceeded before a test gives up: limits are for a machine that does nothing else.
const patience = 6

// eventually calls `check` until it succeeds, and returns its last error if it does not in time.
func eventually(limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit * patience)
	for {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func contextFor(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), limit)
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mutex sync.Mutex
	text  strings.Builder
}

func (b *syncBuffer) Write(data []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.Write(data)
}

func (b *syncBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.String()
}

// repository is the root of the source tree that this program was built in.
func repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// startRegistry serves the test images and returns the address. It ends with this process.
func startRegistry(repo string) (address string, stop func(), err error) {
	cmd := exec.Command("/usr/bin/python3", filepath.Join(repo, "tests/images/registry.py"))
	cmd.Stderr = os.Stderr
	dieWithParent(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil && !errors.Is(err, io.EOF) || n == 0 {
		stop()
		return "", nil, fmt.Errorf("no registry: %v", err)
	}
	return strings.TrimSpace(string(line[:n])), stop, nil
}
