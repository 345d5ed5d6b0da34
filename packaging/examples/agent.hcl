# Example of an agent's configuration, for a file beside the agent's own: /etc/nomad.d/containerd-driver.hcl
# An agent has one plugin_dir. If yours has one already, link the driver there instead:
#   ln -s /usr/bin/containerd-driver PLUGIN_DIR/
plugin_dir = "/usr/lib/nomad/plugins"

plugin "containerd-driver" {
  config {
    allow_privileged = false
  }
}
