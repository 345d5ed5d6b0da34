# shellcheck shell=bash
# Sourced by the scripts of this folder: where things are, and how to say what is being done.

set -euo pipefail

# Debian's own programs first: a Python or a meson of the user's would not have what scripts/setup installs.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/containerd-driver

# ccache: the same object for every folder, and no run of the preprocessor of its own for what it does not have yet.
export CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The Go release that the agent's module asks for; `go` refuses to build it with an older one.
go_wanted() { awk '$1 == "go" { print $2 }' "$repo/tests/agent/go.mod"; }

# Prints the first Go that is new enough, or fails. Since 1.21 an older Go fetches the release that a module asks for by
# itself, through the module proxy, unless it was told not to (GOTOOLCHAIN=local).
find_go() {
  local go version wanted
  wanted=$(go_wanted)
  for go in "$(command -v go || true)" /usr/local/go/bin/go "$cache/go/bin/go"; do
    [[ -x $go ]] || continue
    version=$(cd / && "$go" env GOVERSION 2>/dev/null) || continue
    version=${version#go}
    if at_least "$version" "$wanted" ||
       { at_least "$version" 1.21 && [[ $("$go" env GOTOOLCHAIN) != local* ]]; }; then
      printf '%s\n' "$go"
      return
    fi
  done
  return 1
}

at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -1) == "$2" ]]; }

# What agent and harness are built with; the same for both, so that what is compiled for one is there for the other.
# Without inlining (-l) and debug information they take two thirds of the time to compile.
go_flags=(-buildvcs=false -tags hashicorpmetrics '-gcflags=all=-l -dwarf=false' -ldflags '-s -w')

# hash_of FOLDER: a short name for the contents of its files, for what is built from them.
hash_of() { find "$1" -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-16; }

# build DIR [meson option…]: configures once and compiles (the programs, or $targets); the compiler's output is shown
# only if it fails. A folder that is made here has several files to a compilation, which takes a third of the time;
# where that fails each file is compiled by itself, for two files may have the same name for different things.
build() {
  local dir=$1 log=$repo/$1/build.log
  shift
  say "$dir: compiling"
  mkdir -p "$repo/$dir"
  if [[ ! -e $repo/$dir/build.ninja ]]; then
    configure setup "$repo/$dir" "$repo" -Dunity=on -Dunity_size=6 "$@"
  elif (($#)); then
    configure configure "$repo/$dir" "$@"
  fi
  if ! compile "$dir"; then
    grep -v '^\[' "$log" | head -60
    grep -q -e '-unity0\.cpp' "$repo/$dir/build.ninja" || die "ninja -C $dir failed, see $log"
    say "$dir: compiling file by file"
    configure configure "$repo/$dir" -Dunity=off
    compile "$dir" || { grep -v '^\[' "$log" | head -60; die "ninja -C $dir failed, see $log"; }
  fi
}

configure() { /usr/bin/meson "$@" > "$log" 2>&1 || { tail -40 "$log"; die "meson $1 $dir failed"; }; }

# shellcheck disable=SC2086
compile() { nice /usr/bin/ninja -C "$repo/$1" ${targets:-} > "$log" 2>&1; }
