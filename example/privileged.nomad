# All capabilities, the host's devices, and a folder of the host. Before: mkdir -p /tmp/s1; modprobe loop
#   nomad alloc exec -job privileged mountpoint /tmp/t1
job "privileged" {
  datacenters = ["dc1"]

  group "privileged-group" {
    task "privileged-task" {
      driver = "containerd-driver"

      config {
        image      = "ubuntu:16.04"
        command    = "sleep"
        args       = ["600s"]
        privileged = true
        devices    = ["/dev/loop0", "/dev/loop1"]

        mounts = [
          {
            type    = "bind"
            source  = "/tmp/s1"
            target  = "/tmp/t1"
            options = ["rbind", "ro"]
          }
        ]
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
