# shellcheck shell=bash
# Sourced by scripts that work in a minimal Debian: make_root, in_root, remove_root.
#
# The system is made by debootstrap (kept for a week in the cache, as nothing but minbase) and run in mount and pid
# namespaces of its own; network, cgroups and the way to package registries are this machine's. Who sources this gets a
# trap: at the end, also of a script that is interrupted, the system's processes are ended and its folder is removed.

declare -A codenames=([12]=bookworm [13]=trixie)
root_days_kept=7
root='' inside=''

# $0 as people call it, for messages and folders.
self=$(basename "$0")

trap 'remove_root' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

need_root() {
  [[ $EUID == 0 ]] || die "run scripts/$self as root"
  command -v debootstrap > /dev/null || "$repo/scripts/setup" nightly
}

# make_root RELEASE: a new one in $root, with a copy of this tree in its /src.
make_root() {
  local base=$cache/debian-$1.tar
  [[ ${codenames[$1]:-} ]] || die "no Debian $1; there are: ${!codenames[*]}"
  root=$(mktemp -d /tmp/cd-fresh-XXXXXX)   # short: paths of unix sockets end after 108 bytes
  find "$cache" -maxdepth 1 -name "debian-$1.tar" -mtime "+$root_days_kept" -delete
  if [[ ! -e $base ]]; then
    say "$self: making a minimal Debian $1"
    mkdir -p "$cache"
    unshare --mount --pid --fork --kill-child \
      debootstrap --variant=minbase "${codenames[$1]}" "$root" "$(mirror)" > "$root.log" 2>&1 ||
      { tail -5 "$root.log"; die "debootstrap of Debian $1 failed"; }
    tar -C "$root" -cf "$base.new" .
    mv "$base.new" "$base"
  else
    tar -C "$root" -xf "$base"
  fi
  apt-config dump Acquire::http Acquire::https Acquire::ftp Acquire::Retries Acquire::Check-Date Acquire::Check-Valid-Until > "$root/etc/apt/apt.conf.d/99host"
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  host_certificates
  echo force-unsafe-io > "$root/etc/dpkg/dpkg.cfg.d/fresh"   # it need not outlive a cut of the power
  mkdir "$root/src"
  git -C "$repo" ls-files -z --cached --others --exclude-standard | tar -C "$repo" --null -T - -c --ignore-failed-read |
    tar -C "$root/src" -x
}

# Where this machine has its own Debian packages from, if it is a Debian.
mirror() {
  local found
  found=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' 'Label: Debian' | head -1)
  printf '%s\n' "${found:-http://deb.debian.org/debian}"
}

# Authorities that were added to this machine's, for a proxy in between perhaps: with Debian's own they are made known
# when the package ca-certificates comes.
host_certificates() {
  mkdir -p "$root/usr/local/share"
  [[ ! -d /usr/local/share/ca-certificates ]] || cp -RL /usr/local/share/ca-certificates "$root/usr/local/share/"
}

# in_root COMMAND [LOG]: runs it in the system, and is patient with what it has to clean up when it is interrupted. With
# LOG what it prints goes there, and is shown only if it fails.
in_root() {
  local begin=$SECONDS log=${2:-}
  say "$self: $1"
  set -m
  { if [[ $log ]]; then exec > "$log" 2>&1; fi
    exec unshare --mount --pid --fork --kill-child --propagation private \
      /bin/bash -c "$enter_root" enter "$root" "$1" "$(passed_environment)"
  } < /dev/null &
  inside=$!
  set +m
  wait "$inside" || {
    [[ ! $log ]] || tail -40 "$log"
    die "$1 failed on $(sed -n 's/^PRETTY_NAME=//p' "$root/etc/os-release")${log:+, see $log}"
  }
  inside=
  say "$self: $1 took $((SECONDS - begin)) s"
}

# What this machine needs for the network, if anything.
passed_environment() {
  echo LANG=C.UTF-8
  env | grep -iE '^(https?_proxy|no_proxy|GOPROXY|GONOPROXY|GOSUMDB|GONOSUMDB|GOFLAGS|GOINSECURE)=' || true
}

# Run as pid 1 of the namespaces: ROOT COMMAND ENVIRONMENT.
enter_root='
set -euo pipefail
cd "$1"
mount --rbind . .
cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mapfile -t environment <<< "$3"
pivot_root . mnt
cd /
umount --lazy mnt
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "${environment[@]}" \
  /bin/bash -c "cd /src && $2; exit \$?"   # not exec: pid 1 of these namespaces is a shell
'

remove_root() {
  if [[ $inside ]]; then
    kill -TERM -- "-$inside" 2> /dev/null || true
    timeout 60 tail --pid="$inside" -f /dev/null || kill -KILL -- "-$inside" || true
    inside=
  fi
  [[ ! $root ]] || rm -rf --one-file-system "$root" "$root.log"
  root=
}
