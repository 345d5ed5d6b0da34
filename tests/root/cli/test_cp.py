"""cp: files out of containers and into them, whatever links they contain."""

import os
import stat

import pytest

BUSYBOX = "library/busybox:latest"


def tree(folder):
    return sorted(os.path.relpath(os.path.join(path, name), folder) for path, _, names in os.walk(folder) for name in names)


@pytest.fixture
def box(node):
    """A container that runs, and a shell in it."""
    ran = node.call("run", "-d", "--name", "box", node.image(BUSYBOX), "sleep", "600")
    assert ran.returncode == 0, ran

    def shell(line):
        done = node.call("exec", "box", "sh", "-c", line)
        assert done.returncode == 0, done
        return done.stdout

    yield shell
    node.call("rm", "-f", "box")


def copy(node, source, target, *flags, **options):
    return node.call("cp", *flags, str(source), str(target), **options)


def test_out(node, box, tmp_path):
    box("mkdir -p /s/sub && echo 1 > /s/a && chmod 640 /s/a && echo 2 > /s/sub/b && ln -s a /s/link && mkfifo /s/fifo")
    (tmp_path / "have").mkdir()
    for target, found in [("new", "new"), ("have", "have/s")]:
        assert copy(node, "box:/s", tmp_path / target).returncode == 0
        assert tree(tmp_path / found) == ["a", "fifo", "link", "sub/b"]
        assert os.readlink(tmp_path / found / "link") == "a"
        assert stat.S_IMODE((tmp_path / found / "a").stat().st_mode) == 0o640
    (tmp_path / "content").mkdir()
    assert copy(node, "box:/s/.", tmp_path / "content").returncode == 0
    assert tree(tmp_path / "content") == ["a", "fifo", "link", "sub/b"]


def test_in_and_of_one_that_has_ended(node, box, tmp_path):
    (tmp_path / "s/sub").mkdir(parents=True)
    (tmp_path / "s/a").write_text("1")
    (tmp_path / "s/sub/b").write_text("2")
    assert copy(node, tmp_path / "s", "box:/new").returncode == 0
    assert box("cat /new/a /new/sub/b") == "12"
    assert copy(node, "./s/a", "box:new/c", cwd=tmp_path).returncode == 0
    assert box("cat /new/c") == "1"
    node.call("stop", "-t", "0", "box")
    assert copy(node, tmp_path / "s/a", "box:/late").returncode == 0
    assert copy(node, "box:/late", tmp_path / "back").returncode == 0
    assert (tmp_path / "back").read_text() == "1"
    assert node.call("start", "box").returncode == 0
    assert box("cat /late") == "1"


def test_holes_stay_holes(node, box, tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.seek(1 << 30)
        file.write(b"end")
    assert copy(node, tmp_path / "sparse", "box:/sparse").returncode == 0
    size, blocks = map(int, box("stat -c '%s %b' /sparse").split())
    assert size == (1 << 30) + 3 and blocks < 1000
    assert box("tail -c 3 /sparse") == "end"


@pytest.mark.parametrize("link", ["/link", "/rel"])
def test_no_link_leads_to_the_host(node, box, tmp_path, link):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "f").write_text("hello")
    box(f"mkdir -p {outside} && ln -s {outside} /link && ln -s ../../../../../../..{outside} /rel")
    assert copy(node, tmp_path / "f", f"box:{link}/").returncode == 0
    assert not list(outside.iterdir())
    assert box(f"cat {outside}/f") == "hello"
    # A file that is a link is written where it leads inside, a new one below it does not follow.
    (tmp_path / "secret").write_text("host")
    box(f"echo inner > {tmp_path}/secret && ln -s {tmp_path}/secret /to-secret")
    assert copy(node, tmp_path / "f", "box:/to-secret").returncode == 0
    assert (tmp_path / "secret").read_text() == "host"
    assert box(f"cat {tmp_path}/secret") == "hello"
    assert copy(node, "box:/to-secret", tmp_path / "got").returncode == 0
    assert os.path.islink(tmp_path / "got")
    assert copy(node, tmp_path / "f", "box:/../../../../up").returncode == 0
    assert box("cat /up") == "hello" and not os.path.exists("/up")


def test_a_container_that_swaps_names_meanwhile_reaches_nothing(node, box, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "a").write_text("host")
    source = tmp_path / "s"
    (source / "d").mkdir(parents=True)
    (source / "d/a").write_text("x" * 100)
    box(f"mkdir -p {victim}; "
        f"(while :; do rm -rf /t/s/d; mkdir -p /t/s/d; rm -rf /t/s/d; ln -s {victim} /t/s/d; done) > /dev/null 2>&1 &")
    for _ in range(100):
        copy(node, source, "box:/t/")
    assert (victim / "a").read_text() == "host" and tree(victim) == ["a"]


@pytest.mark.parametrize("source, target", [
    ("box:/nothing", "{tmp}/x"), ("nobody:/x", "{tmp}/x"), ("{tmp}/none", "box:/x"), ("{tmp}/f", "box:/none/"),
    ("{tmp}/f", "box:/no/such/f"), ("{tmp}/d", "box:/file"), ("{tmp}/f", "{tmp}/x"), ("box:/file", "box:/x"),
    ("box:/file", "{tmp}/no/such/f"), ("box:", "{tmp}/x"), ("box:/dir", "{tmp}/f"),
])
def test_what_cannot_be(node, box, tmp_path, source, target):
    box("echo kept > /file; mkdir /dir")
    (tmp_path / "f").write_text("f")
    (tmp_path / "d").mkdir()
    before = tree(tmp_path / "d")
    failed = copy(node, source.format(tmp=tmp_path), target.format(tmp=tmp_path))
    assert failed.returncode == 125 and failed.stderr.startswith("containerd-driver: ")
    assert box("cat /file") == "kept\n" and (tmp_path / "f").read_text() == "f" and tree(tmp_path / "d") == before
    assert not (tmp_path / "x").exists() and not (tmp_path / "no").exists()
