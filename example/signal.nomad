# Prints the name of every signal it receives: nomad alloc signal -s SIGUSR1 <alloc>
job "signal" {
  datacenters = ["dc1"]

  group "signal-group" {
    task "signal-task" {
      driver = "containerd-driver"

      config {
        image = "shm32/signal_handler:1.0"
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
