# Prints a line every 3 seconds: nomad alloc logs -f -job hello
job "hello" {
  datacenters = ["dc1"]

  group "hello-group" {
    task "hello-task" {
      driver = "containerd-driver"

      config {
        image = "shm32/hello:world"
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
