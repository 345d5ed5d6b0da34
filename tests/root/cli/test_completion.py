"""What is made from the table of verbs: manual pages and the completion of shells."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def verbs(node):
    usage = node.call("help").stdout
    return re.findall(r"^  ([a-z]+)  ", usage.split("commands:")[1].split("flags of every")[0], re.M)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_takes_it(node, shell, tmp_path):
    script = tmp_path / "script"
    script.write_text(node.call("completion", shell).stdout)
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    checked = subprocess.run([shell, "-n", script], capture_output=True, text=True, timeout=30)
    assert (checked.returncode, checked.stderr) == (0, "")


def completions(node, tmp_path, *words):
    script = tmp_path / "script"
    script.write_text(node.call("completion", "bash").stdout)
    program = tmp_path / "bin"
    program.mkdir(exist_ok=True)
    wrapper = program / "containerd-driver"
    wrapper.write_text(f'#!/bin/sh\nexec {node.argv("")[0]} {" ".join(node.flags)} "$@"\n')
    wrapper.chmod(0o755)
    line = 'source "$1"; shift; PATH=$PATH0:$PATH; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _containerd_driver; printf "%s\\n" "${COMPREPLY[@]}"'
    ran = subprocess.run(["bash", "-c", f"PATH0={program}; {line}", "bash", script, "containerd-driver", *words],
                         capture_output=True, text=True, timeout=60)
    assert ran.stderr == "", ran
    return ran.stdout.split()


def test_bash_completes(node, tmp_path):
    assert completions(node, tmp_path, "sa") == ["save"]
    assert sorted(completions(node, tmp_path, "")) == sorted(verbs(node))
    assert completions(node, tmp_path, "save", "--form") == ["--format"]
    assert completions(node, tmp_path, "--data-dir", "/x", "image", "pru") == ["prune"]
    image = node.image("library/busybox:latest")
    assert node.call("pull", image).returncode == 0
    assert node.call("create", "--name", "web", image, "true").returncode == 0
    assert completions(node, tmp_path, "rm", "w") == ["web"]
    assert completions(node, tmp_path, "tag", "") == [image]
    assert sorted(completions(node, tmp_path, "inspect", "")) == sorted([image, "web"])
    assert node.call("rm", "web").returncode == 0


# What each shell offers after `containerd-driver rm `; zsh without its completion system, which needs a terminal.
OFFERED = {
    "bash": 'source script; COMP_WORDS=(containerd-driver rm ""); COMP_CWORD=2; _containerd_driver; printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": "_arguments() { :; }; source ./script; compadd() { shift; print -rl -- \"$@\"; }; _containerd_driver_containers",
    "fish": "source script; complete -C 'containerd-driver rm '",
}


@pytest.mark.parametrize("shell", OFFERED)
def test_names_are_never_run(node, shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "script").write_text(node.call("completion", shell).stdout)
    program = tmp_path / "containerd-driver"
    program.write_text("#!/bin/sh\nprintf '%s\\n' '$(touch ran)' '`touch ran`' '*' 'two words'\n")
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    ran = subprocess.run([shell, "-c", OFFERED[shell]], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert not (tmp_path / "ran").exists()
    offered = ran.stdout.splitlines()
    quoted = [r"\$\(touch\ ran\)", r"\`touch\ ran\`", r"\*", r"two\ words"]
    plain = ["$(touch ran)", "`touch ran`", "*", "two words"]
    assert set(quoted if shell == "bash" else plain) <= set(offered), ran


def test_manual_pages(node, tmp_path):
    assert subprocess.run([node.argv("")[0], "man", tmp_path], timeout=30).returncode == 0
    pages = sorted(path.name for path in tmp_path.glob("*.1"))
    assert pages == sorted(["containerd-driver.1"] + [f"containerd-driver-{verb}.1" for verb in verbs(node)])
    if shutil.which("groff"):
        for page in pages:
            checked = subprocess.run(["groff", "-K", "utf8", "-t", "-man", "-Tutf8", "-wchar", "-wescape", "-wsyntax", "-Wbreak", "-z", tmp_path / page],
                                     capture_output=True, text=True, timeout=30)
            assert (checked.returncode, checked.stderr) == (0, ""), page
    refused = subprocess.run([node.argv("")[0], "man", tmp_path / "none"], capture_output=True, text=True, timeout=30)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1


def test_every_command_is_in_the_documentation(node):
    table = (ROOT / "docs/cli.md").read_text().split("\n## ")[0]
    first_column = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    documented = set(re.findall(r"`([a-z]+)", first_column))
    assert documented == set(verbs(node))
