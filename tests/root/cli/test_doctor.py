"""doctor, on this host and on hosts that are broken in a mount namespace."""

import json
import os
import shutil
import subprocess

import pytest


def doctor(node, prepare="", **env):
    """The findings, by what they are about, and the exit code."""
    script = f"mount --make-rprivate /; {prepare} exec \"$@\""
    ran = subprocess.run(["unshare", "-m", "sh", "-ec", script, "sh", *node.argv("doctor", "-o", "json")],
                         capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    assert ran.stderr == "", ran
    return {finding["check"]: finding for finding in json.loads(ran.stdout)}, ran.returncode


def test_the_lines_of_this_host(node):
    findings, code = doctor(node)
    assert code == any(finding["verdict"] == "FAIL" for finding in findings.values())
    for check in ("user", "kernel", "cgroups", "overlay", "shim", "runtime", "image helper", "disk", "tasks"):
        assert findings[check]["verdict"] in ("OK", "WARN"), findings[check]
    for finding in findings.values():
        assert ("remedy" in finding) == (finding["verdict"] != "OK"), finding
    assert os.path.realpath("/usr/bin/runc") and "runc version" in findings["runtime"]["text"]
    lines = node.call("doctor").stdout.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == [f["verdict"] for f in findings.values()]


@pytest.mark.parametrize("prepare, check, verdict, words", [
    ("mount --bind /dev/null /usr/sbin/xtables-nft-multi;", "cni", "WARN", "no iptables"),
    ("echo 0 > $T/f; mount --bind $T/f /proc/sys/net/ipv4/ip_forward;", "ip_forward", "WARN", "off"),
    ("cp /bin/true $T/s; chmod 777 $T/s; mount --bind $T/s $SHIM;", "shim", "FAIL", "can change"),
    ("cp /bin/false $T/s; mount --bind $T/s $SHIM;", "shim", "FAIL", "exit code 1"),
    ("cp /bin/false $T/s; chmod 644 $T/s; mount --bind $T/s $SHIM;", "shim", "FAIL", ""),
    ("printf 'sleep 60' > $T/s; sed -i '1i #!/bin/sh' $T/s; chmod 755 $T/s; mount --bind $T/s $SHIM;", "shim", "WARN", "did not answer"),
    ("printf 'nodev\\tsysfs\\n' > $T/f; mount --bind $T/f /proc/filesystems;", "overlay", "FAIL", "does not have it"),
    ("mount -t tmpfs none /sys/fs/cgroup;", "cgroups", "FAIL", "none are mounted"),
    ("for d in /opt/cni/bin /usr/lib/cni; do [ ! -d $d ] || mount -t tmpfs none $d; done;", "cni", "WARN", "bridge"),
    ("printf 0 > $T/f; mount --bind $T/f /proc/sys/user/max_user_namespaces;", "user namespaces", "WARN", "not allowed"),
    ("mkdir -p $DATA; mount -t tmpfs -o size=64k,nr_inodes=20 none $DATA; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 "
     "17 18 19; do echo > $DATA/$i; done 2> $T/e || :;", "disk", "FAIL", "100% of the inodes"),
    ("echo '{' > $DATA/index.json;", "images", "FAIL", "index.json is damaged"),
    ("mkdir -p $STATE/bundles/web-0123456789abcdef;", "leftovers", "WARN", "web-0123456789abcdef"),
    ("mkdir -p $STATE; echo > $STATE/bundles;", "leftovers", "WARN", "Not a directory"),
    ("mkdir -p $DATA/tasks/web-0123456789abcdef; echo '{' > $DATA/tasks/web-0123456789abcdef/record.json;", "tasks",
     "WARN", "record"),
])
def test_a_broken_host(node, tmp_path, prepare, check, verdict, words):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    healthy, _ = doctor(node)
    findings, code = doctor(node, prepare, T=str(scratch), SHIM=os.path.realpath(shutil.which("containerd-shim-runc-v2")),
                            DATA=str(node.folder / "data"), STATE=str(node.folder / "state"))
    try:
        assert findings[check]["verdict"] == verdict and words in findings[check]["text"], findings[check]
        assert (code == 1) == any(finding["verdict"] == "FAIL" for finding in findings.values())
        others = {name for name in findings if findings[name]["verdict"] != healthy[name]["verdict"]}
        assert others <= {check}, others
    finally:
        for folder in ("data/tasks", "state"):
            shutil.rmtree(node.folder / folder, ignore_errors=True)


def test_without_root(node):
    ran = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "--regid", "65534", *node.argv("doctor")[:1], "doctor"],
                         capture_output=True, text=True, timeout=60)
    assert ran.returncode in (1, 126, 127) and "Traceback" not in ran.stderr
