#!/bin/sh
# Installs the programs that lie beside this file, or removes what it has installed:
#
#   ./install.sh [--prefix DIR] [--remove]       default: /usr/local
#
# Run it as often as you like, and again if it was interrupted. The programs of a version have a folder of their own, and
# one rename makes them the ones that are used: an agent, a task or a command sees the old ones or the new ones, and goes
# on with those that it has. A folder that no process uses any more is removed by a later run. No service is restarted.
#
# DESTDIR=/some/tree is put before every path, for who makes packages; without it root is needed.
set -eu
umask 022

prefix=/usr/local
destination=${DESTDIR:-}
# Where the driver looks for programs, whatever the agent's PATH is.
program_folders='/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin /usr/libexec/containerd'
cgroup_folder=/sys/fs/cgroup
staging=''

main() {
	remove=no
	while [ $# -gt 0 ]; do
		case $1 in
		--prefix) [ $# -gt 1 ] || usage; prefix=$2; shift ;;
		--prefix=*) prefix=${1#--prefix=} ;;
		--remove) remove=yes ;;
		*) usage ;;
		esac
		shift
	done
	case $prefix in
	/*) prefix=${prefix%/} ;;
	*) fail "--prefix $prefix is not an absolute path" ;;
	esac
	[ -n "$destination" ] || [ "$(id -u)" = 0 ] || fail "root is needed to install into $prefix: run it with sudo"
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	folder=$destination$prefix/libexec/containerd-driver
	if [ $remove = yes ]; then
		remove_all
	else
		install_all
	fi
}

usage() {
	echo 'usage: ./install.sh [--prefix DIR] [--remove]' >&2
	exit 2
}

say() { printf '%s\n' "$*"; }
fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

clean_up() {
	[ -z "$staging" ] || rm -rf "$staging"
}

# --- installing

install_all() {
	cd "$(dirname "$0")"
	check_release
	make_folder "$folder"
	lock
	name=$(cat VERSION)-$(sha256sum SHA256SUMS | cut -c1-12)
	if [ -d "$folder/$name" ]; then
		say "$prefix/libexec/containerd-driver/$name is there already"
	else
		stage_programs
	fi
	put_file systemd/nomad.service.d/containerd-driver.conf lib/systemd/system/nomad.service.d
	put_link ../../../bin/containerd-driver lib/nomad/plugins
	# From here on these are the programs.
	put_link "../libexec/containerd-driver/$name/containerd-driver" bin
	remove_unused
	say "containerd-driver $(cat VERSION) is installed: $prefix/bin/containerd-driver"
	say "for the agent's configuration: plugin_dir = \"$prefix/lib/nomad/plugins\""
	[ -n "$destination" ] || report_node
}

# Nothing is changed before all of this is known.
check_release() {
	wanted=$(cat MACHINE) || fail "MACHINE is missing beside install.sh: unpack the whole archive again"
	[ "$(uname -m)" = "$wanted" ] || fail "this release is for $wanted and this machine is $(uname -m): take the other archive"
	sha256sum --quiet --check SHA256SUMS >&2 || fail "these files are not those of the release: unpack the archive again"
	[ -z "$destination" ] || return 0
	libraries=$(ldd programs/containerd-driver programs/containerd-driver-image 2>&1 | grep 'not found' | sort -u) || true
	[ -z "$libraries" ] || fail "the system lacks what the programs are linked with; install it (Debian: libcurl4 libarchive13 libssl3):
$libraries"
}

make_folder() {
	mkdir -p "$1" 2> /dev/null && [ -w "$1" ] || fail "$1 cannot be written: choose another --prefix, or make it writable"
}

# One at a time. What a killed run has left is nobody's then.
lock() {
	exec 9< "$folder"
	flock -n 9 || fail "another install.sh is at work in $folder"
	rm -rf "$folder"/.new.*
}

stage_programs() {
	staging=$(mktemp -d "$folder/.new.XXXXXX")
	cp programs/containerd-driver programs/containerd-driver-image programs/containerd-driver-init "$staging/"
	chmod 755 "$staging" "$staging"/*
	sync -f "$staging"
	mv -T "$staging" "$folder/$name"
	staging=''
}

# put_file FILE FOLDER: with the mode of a file that everybody reads, by a rename.
put_file() {
	make_folder "$destination$prefix/$2"
	staging=$destination$prefix/$2/.new.containerd-driver
	rm -f "$staging"
	cp "$1" "$staging"
	chmod 644 "$staging"
	mv -T "$staging" "$destination$prefix/$2/$(basename "$1")"
	staging=''
}

# put_link TARGET FOLDER: FOLDER/containerd-driver leads to TARGET, by a rename.
put_link() {
	make_folder "$destination$prefix/$2"
	staging=$destination$prefix/$2/.new.containerd-driver
	rm -f "$staging"
	ln -s "$1" "$staging"
	mv -T "$staging" "$destination$prefix/$2/containerd-driver"
	staging=''
}

# Folders of other versions, unless a process runs a program of theirs: it may start the one beside it.
remove_unused() {
	for other in "$folder"/*-????????????; do
		[ -d "$other" ] && [ "$other" != "$folder/$name" ] || continue
		if used "$other"; then
			say "$other is still used; a later run removes it"
		else
			rm -rf "$other"
		fi
	done
}

used() {
	for process in /proc/[0-9]*; do
		case $(readlink "$process/exe" || true) in
		"$1"/*) return 0 ;;
		esac
	done 2> /dev/null
	return 1
}

# What tasks need and this node does not have. It can come later, so it is no error.
report_node() {
	found containerd-shim-runc-v2 || say "missing: containerd-shim-runc-v2 (Debian: the package containerd; its daemon need not run)"
	found runc || found crun || say "missing: runc or crun"
	[ -e "$cgroup_folder/cgroup.controllers" ] || [ -d "$cgroup_folder/memory" ] ||
		say "missing: control groups: nothing that limits memory is mounted at $cgroup_folder"
	kernel=$(uname -r)
	case $kernel in
	[0-4].* | 5.[0-9].* | 5.1[01].*) say "too old: Linux $kernel; images need 5.12 or later" ;;
	esac
	if [ -d /run/systemd/system ]; then
		say "for the agent's unit: systemctl daemon-reload"
	fi
}

found() {
	for program_folder in $program_folders; do
		[ ! -x "$program_folder/$1" ] || return 0
	done
	return 1
}

# --- removing

remove_all() {
	program=$destination$prefix/bin/containerd-driver
	[ -L "$program" ] || fail "$program is not what install.sh has installed"
	[ ! -d "$folder" ] || lock
	[ -n "$destination" ] || refuse_running
	# The name that commands use goes first, and the programs last: a run that is interrupted can be repeated.
	rm -f "$destination$prefix/lib/nomad/plugins/containerd-driver" \
		"$destination$prefix/lib/systemd/system/nomad.service.d/containerd-driver.conf"
	for other in "$folder"/*-????????????; do
		[ ! -d "$other" ] || rm -rf "$other"
	done
	rm -f "$program"
	rmdir "$folder" "$destination$prefix/lib/nomad/plugins" "$destination$prefix/lib/nomad" \
		"$destination$prefix/lib/systemd/system/nomad.service.d" 2> /dev/null || true
	say "removed; images and records are left in /var/lib/containerd-driver"
}

# Without the program nobody could stop them. Those of another data_dir than the default one have a shim.
refuse_running() {
	running=$("$program" ps --format '    {{.Names}}') || fail "whether containers run is not known, so nothing was removed"
	[ -z "$running" ] || fail "containers are running, so nothing was removed; stop the jobs, or \`containerd-driver rm --force NAME\`:
$running"
	left=$(shims)
	[ -z "$left" ] || fail "containers are left, ended and kept or of another --data-dir, so nothing was removed; remove them with \`containerd-driver rm NAME\`:
$left"
}

# As in debian/containerd-driver.prerm.
shims() {
	for process in /proc/[0-9]*; do
		case $(readlink "$process/exe" || true) in
		*/containerd-shim-runc-v2 | */'containerd-shim-runc-v2 (deleted)') ;;
		*) continue ;;
		esac
		grep -q '^Uid:	0	' "$process/status" || continue
		tr '\0' ' ' <"$process/cmdline" || true
		echo
	done 2>/dev/null |
		sed -n 's/^[^ ]*containerd-shim-runc-v2 -namespace containerd-driver -id \([A-Za-z0-9_.-]*\) .*/    \1/p'
}

main "$@"
