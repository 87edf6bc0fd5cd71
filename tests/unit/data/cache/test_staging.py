"""Files appear whole, in their place and nowhere else, by one process at a time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.jobs import ROOT

from daskmr.data.cache import staging as module
from daskmr.data.cache.staging import Staging
from daskmr.data.paths import Unplaceable, fold, split_path
from daskmr.errors import JobError
from daskmr.files import is_case_blind

CLAIMING = """
import sys
from daskmr.data.cache.staging import Staging
staged = Staging(sys.argv[1]).claim(sys.argv[2])
staged.write(b"half")
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(str(tmp_path / "cache"))


def put(staging: Staging, path: str, data: bytes = b"data") -> None:
    staged = staging.claim(path)
    assert staged is not None
    staged.write(data)
    staged.seal()
    staged.place()
    staged.release()


@contextmanager
def another_claims(staging: Staging, path: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", CLAIMING, staging.root, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def below(folder: Path | str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def test_a_file_comes_whole(staging: Staging) -> None:
    staged = staging.claim("idle/a.gz")
    assert staged is not None
    staged.write(b"wrong")
    staged.restart()
    staged.write(b"ri")
    staged.write(memoryview(b"ght"))
    assert staging.found("idle/a.gz") is None
    sealed = staged.seal()
    staged.place()
    found = staging.found("idle/a.gz")
    assert found is not None
    assert (found.st_mtime_ns, found.st_size) == (sealed.st_mtime_ns, 5)
    assert Path(staging.root, "idle/a.gz").read_bytes() == b"right"
    staged.release()
    staged.release()
    assert below(staging.folder) == []


def test_a_claim_that_is_given_up_leaves_nothing(staging: Staging) -> None:
    staged = staging.claim("idle/a.gz")
    assert staged is not None
    staged.write(b"half")
    staged.release()
    assert below(staging.folder) == []
    assert not os.path.exists(staging.root)


def test_one_claim_at_a_time(staging: Staging) -> None:
    first = staging.claim("idle/a.gz")
    assert first is not None
    assert staging.claim("idle/a.gz") is None
    other = staging.claim("idle/b.gz")
    assert other is not None
    other.release()
    first.release()
    second = staging.claim("idle/a.gz")
    assert second is not None
    second.release()


def test_a_claim_ends_with_its_process(staging: Staging) -> None:
    with another_claims(staging, "idle/a.gz") as process:
        before = staging.progress("idle/a.gz")
        assert staging.claim("idle/a.gz") is None
        assert staging.sweep() == 0
        assert staging.progress("idle/a.gz") == before != None  # noqa: E711
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(below(staging.folder)) == 1
        staged = staging.claim("idle/a.gz")
        assert staged is not None, "the claim went with the process"
        staged.write(b"data")
        assert staged.seal().st_size == 4, "and what it had written counts for nothing"
        staged.release()
    assert below(staging.folder) == []


def test_what_a_dead_process_left_is_swept(staging: Staging) -> None:
    with another_claims(staging, "a") as dying, another_claims(staging, "b"):
        dying.send_signal(signal.SIGKILL)
        dying.wait()
        assert staging.sweep() == 1
        assert len(below(staging.folder)) == 1, "the other process lives"
        assert staging.claim("b") is None
    assert staging.sweep() == 1


def test_a_sweep_leaves_alone_what_is_not_its_own(staging: Staging, tmp_path: Path) -> None:
    assert staging.sweep() == 0
    folder = Path(staging.folder)
    folder.mkdir()
    (folder / "mine").write_text("mine")
    (folder / ("0" * 40)).symlink_to(folder / "mine")
    assert staging.sweep() == 0
    assert (folder / "mine").read_text() == "mine"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_keeps_no_claim(staging: Staging) -> None:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        staged = staging.claim("a")
        child = os.fork()
        if child == 0:
            os.close(read_end)
            signal.pause()
            os._exit(0)
        os.write(write_end, b"%d\n" % child)
        os.kill(os.getpid(), signal.SIGKILL)
        del staged
    with open(read_end, "rb") as file:
        os.close(write_end)
        grandchild = int(file.readline())
        os.waitpid(pid, 0)
        try:
            again = staging.claim("a")
            assert again is not None
            again.release()
        finally:
            os.kill(grandchild, signal.SIGKILL)


HOSTILE = [
    *("..", ".", "", "../a", "a/../../b", "/etc/passwd", "a//b", "a/", "a/./b", "a\0b"),
    *("a/" + "x" * 256, "\ud800", "é" * 200),
]


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_have_no_place(path: str, staging: Staging, tmp_path: Path) -> None:
    with pytest.raises(Unplaceable):
        staging.claim(path)
    assert below(tmp_path) == []


@given(st.text(st.sampled_from("./\0\n\\ab\u0301é\udc80"), max_size=12))
def test_a_path_with_parts_stays_below_its_root(path: str) -> None:
    try:
        parts = split_path(path)
    except Unplaceable:
        return
    real = os.path.normpath(os.path.join("/top/of/all", path))
    assert real.startswith("/top/of/all/")
    assert real.count("/") == 3 + len(parts)


NAMES = st.text(st.characters(exclude_characters="\u0345"))  # a mark that is a letter in capitals


@given(NAMES, NAMES)
@example("\u0131", "")
def test_folding_makes_one_of_what_differs_in_case(one: str, two: str) -> None:
    assert fold(one + two) == fold(fold(one + two))
    assert fold(one.lower()) == fold(one.lower().upper().lower())


def test_odd_names_that_are_names(staging: Staging) -> None:
    for path in ("a b/c\nd", "é/e\u0301", "-rf", "a\\b", "x" * 255, ".hidden", "\udcff"):
        put(staging, path, path.encode("utf-8", "surrogateescape"))
        assert Path(staging.root, path).read_bytes() == os.fsencode(path)


def test_links_are_not_followed_for_writing(staging: Staging, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("mine")
    root = Path(staging.root)
    root.mkdir()
    (root / "linked").symlink_to(outside)
    (root / "deep").mkdir()
    (root / "deep/linked").symlink_to("../../outside")
    (root / "a").symlink_to(outside / "victim")
    (root / "b").symlink_to(outside / "new")

    for path in ("linked/victim", "linked/new", "deep/linked/new/x"):
        staged = staging.claim(path)
        assert staged is not None
        with pytest.raises(Unplaceable, match=r"has no place in the cache .* is a link or a file"):
            staging.check(path)
        staged.write(b"hostile")
        with pytest.raises(Unplaceable, match=r"remove it\.$"):
            staged.place()
        staged.release()
        with pytest.raises(Unplaceable):
            staging.remove(path)
    for path in ("a", "b"):
        put(staging, path)
        assert not (root / path).is_symlink(), "the link itself gives way"
    assert below(outside) == ["victim"]
    assert (outside / "victim").read_text() == "mine"
    assert below(staging.folder) == []


def test_removing_takes_a_link_and_not_its_target(staging: Staging, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    Path(staging.root).mkdir()
    Path(staging.root, "a").symlink_to(tmp_path / "victim")
    staging.remove("a")
    staging.remove("a")
    assert below(tmp_path) == ["cache", "victim"]


def test_a_root_that_is_a_link_is_where_files_go(tmp_path: Path) -> None:
    """As on a work dir whose cache was moved to a larger disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to("disk")
    staging = Staging(str(tmp_path / "cache"))
    put(staging, "idle/a.gz")
    assert (tmp_path / "disk/idle/a.gz").read_bytes() == b"data"
    assert staging.folder == str(tmp_path / "disk-partial")


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_what_is_planted_where_files_are_written_gives_way(
    kind: str, staging: Staging, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    staged = staging.claim("a")
    assert staged is not None
    where = Path(staged._where)
    staged.release()
    plant: dict[str, Callable[[], object]] = {
        "link": lambda: where.symlink_to(victim),
        "hard link": lambda: os.link(victim, where),
        "fifo": lambda: os.mkfifo(where),
    }
    plant[kind]()
    put(staging, "a")
    assert victim.read_text() == "mine"
    assert Path(staging.root, "a").read_bytes() == b"data"


def test_a_folder_for_writing_that_is_a_link_is_refused(staging: Staging, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", staging.folder)
    with pytest.raises(JobError, match="is a link, which is not followed"):
        staging.claim("a")
    assert below(tmp_path / "elsewhere") == []


def test_a_directory_in_the_place_of_a_file(staging: Staging) -> None:
    put(staging, "idle/a.gz/b")
    with pytest.raises(Unplaceable, match="a directory is in its place"):
        staging.check("idle/a.gz")
    with pytest.raises(Unplaceable, match="a directory is in its place"):
        staging.remove("idle/a.gz")
    staged = staging.claim("idle/a.gz")
    assert staged is not None
    with pytest.raises(Unplaceable, match="a directory is in its place"):
        staged.place()
    staged.release()
    assert below(staging.root) == ["idle", "idle/a.gz", "idle/a.gz/b"]
    with pytest.raises(Unplaceable):
        staging.check("idle/a.gz/b/c")


def test_the_disk_refuses(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = staging.claim("a")
    assert staged is not None

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name, act in (
        ("write", lambda: staged.write(b"x")),
        ("fsync", staged.seal),
        ("rename", lambda: staged.place()),
        ("mkdir", lambda: staged.place()),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            if name == "mkdir":
                patched.setattr(staged, "path", "b/c")
            with pytest.raises(JobError, match=r"No space left on device .*bytes are free there"):
                act()
    staged.release()
    for place, name in (("fcntl", "flock"), ("os", "open")):
        with monkeypatch.context() as patched:
            patched.setattr(f"{place}.{name}", full)
            with pytest.raises(JobError, match="No space left on device"):
                staging.claim("a")
    assert staging.sweep() == 1
    assert below(staging.folder) == []


def test_a_name_that_the_file_system_does_not_take(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where names are encrypted, and may have 143 bytes."""
    staged = staging.claim("a" * 200)
    assert staged is not None

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENAMETOOLONG, "File name too long")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        with pytest.raises(Unplaceable, match="does not allow the name"):
            staged.place()
    staged.release()


def test_pruning_takes_empty_directories_alone(staging: Staging) -> None:
    put(staging, "idle/Firefox/a")
    put(staging, "idle/Fennec/a")
    staging.remove("idle/Firefox/a")
    staging.prune("idle/Firefox/a")
    assert below(staging.root) == ["idle", "idle/Fennec", "idle/Fennec/a"]
    staging.remove("idle/Fennec/a")
    staging.prune("idle/Fennec/a")
    assert os.listdir(staging.root) == []


def test_a_directory_that_is_pruned_meanwhile_is_made_again(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = staging.claim("idle/a")
    assert staged is not None
    staged.write(b"data")
    rename, times = os.rename, []

    def late(*arguments: str, **options: int) -> None:
        if not times:
            times.append(1)
            os.rmdir(os.path.join(staging.root, "idle"))
        rename(*arguments, **options)

    monkeypatch.setattr(os, "rename", late)
    staged.place()
    staged.release()
    assert times
    assert below(staging.root) == ["idle", "idle/a"]


def test_names_that_differ_in_case_share_a_claim_where_they_are_one(staging: Staging) -> None:
    assert not staging.case_blind
    assert not is_case_blind("/")
    staging.case_blind = True
    first = staging.claim("Idle/a")
    assert first is not None
    assert staging.claim("idle/A") is None
    first.release()


def test_a_case_blind_folder_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Work").mkdir()
    (tmp_path / "wORK").mkdir()
    (tmp_path / "Work/123").mkdir()
    assert not is_case_blind(str(tmp_path / "Work")), "two folders"
    monkeypatch.setattr(
        "os.path.samefile", lambda one, two: one.swapcase().endswith(two.rpartition("/")[2])
    )
    assert is_case_blind(str(tmp_path / "Work/123"))


def test_what_never_ends_is_given_up(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "makedirs", lambda path, **_: None)
        with pytest.raises(JobError, match="is removed repeatedly"):
            staging.claim("a")
    monkeypatch.setattr(module, "is_at", lambda descriptor, where: False)
    with pytest.raises(JobError, match="is not a regular file, or has"):
        staging.claim("a")


def test_what_the_disk_does_not_let_see_or_remove(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(staging, "idle/a")
    assert staging.progress("idle/a") is None
    assert staging.found("idle/a/b") is staging.found("x" * 300) is None

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    for name, act in (
        ("lstat", staging.found),
        ("unlink", staging.remove),
        ("open", staging.check),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, refuse)
            with pytest.raises(JobError, match="Permission denied"):
                act("idle/a")
    with monkeypatch.context() as patched:
        patched.setattr(os, "makedirs", refuse)
        with pytest.raises(JobError, match="Permission denied"):
            Staging(staging.root + "2").claim("a")
