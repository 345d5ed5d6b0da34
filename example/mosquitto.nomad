# A file that Nomad makes from a template, mounted where a program expects it; the source is below the task's folder.
#   nomad alloc exec -job mosquitto cat /mosquitto/config/mosquitto.conf
job "mosquitto" {
  datacenters = ["dc1"]

  group "mosquitto-group" {
    task "mosquitto-task" {
      driver = "containerd-driver"

      template {
        destination = "local/mosquitto.conf"
        data        = <<EOH
bind_address 0.0.0.0
allow_anonymous true
persistence true
persistence_location /mosquitto/data/
log_dest stdout
EOH
      }

      config {
        image   = "ubuntu:16.04"
        command = "sleep"
        args    = ["600s"]

        mounts = [
          {
            type    = "bind"
            source  = "local/mosquitto.conf"
            target  = "/mosquitto/config/mosquitto.conf"
            options = ["rbind", "rw"]
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
