# shellcheck shell=bash
# Sourced by try-package and try-release, on a system that is made for them: containers by the installed program.

export DEBIAN_FRONTEND=noninteractive

prepare() {
  work=$(mktemp -d)
  trap end_containers EXIT
  deny_services
  apt-get -q update
}

die() { echo "error: $*" >&2; exit 1; }
step() { printf '==> %s\n' "$*"; }
apt_install() { apt-get -q -y --no-install-recommends --allow-downgrades install "$@"; }
pid_of() { containerd-driver inspect --format '{{.State.Pid}}' "$1"; }

# refuse_match TEXT COMMAND…: nothing like TEXT is in what COMMAND prints.
refuse_match() {
  local text=$1 printed
  shift
  printed=$("$@")
  [[ $printed != *"$text"* ]] || die "$* printed: $printed"
}

# What comes with a service must not start it here.
deny_services() {
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
}

programs_start() {
  step "the programs start"
  containerd-driver version
  # Whichever program is missing is told in its row, in parentheses.
  refuse_match '(' containerd-driver version
  [[ $(ls "$(dirname "$(command -v containerd-driver)")/../lib/nomad/plugins") == containerd-driver ]]
}

# An archive as `docker save` makes it, of one program.
make_image() {
  step "load an image"
  mkdir "$work/layer" "$work/image"
  cp /bin/busybox "$work/layer/"
  tar -C "$work/layer" -cf "$work/image/layer.tar" busybox
  local digest
  digest=$(sha256sum "$work/image/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(dpkg --print-architecture)" "$digest" > "$work/image/config.json"
  echo '[{"Config":"config.json","RepoTags":["try:1"],"Layers":["layer.tar"]}]' > "$work/image/manifest.json"
  tar -C "$work/image" -cf "$work/image.tar" manifest.json config.json layer.tar
  containerd-driver load --input "$work/image.tar"
}

# Leaves one that runs, `kept`.
run_containers() {
  step "run containers"
  [[ $(containerd-driver run --rm --net none try:1 /busybox echo hello) == hello ]]
  containerd-driver run --detach --net none --name kept try:1 /busybox sleep 3600
}

# still_runs PID: kept is the same process, and does what the installed program tells it.
still_runs() {
  [[ $(pid_of kept) == "$1" ]]
  kill -0 "$1"
  [[ $(containerd-driver exec kept /busybox echo here) == here ]]
}

end_containers() {
  local status=$?
  ((status == 0)) || echo "error: failed with $status in line ${BASH_LINENO[0]}" >&2
  local name
  for name in kept ended; do
    containerd-driver rm --force "$name" > /dev/null 2>&1 || true
  done
  rm -rf "$work"
}
