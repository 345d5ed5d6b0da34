# Keeps CPU, memory and disk busy for three minutes: nomad alloc status -stats <alloc>
job "stress" {
  datacenters = ["dc1"]

  group "stress-group" {
    restart {
      attempts = 5
      delay    = "30s"
    }

    task "stress-task" {
      driver = "containerd-driver"

      config {
        image = "shm32/stress:1.0"
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
