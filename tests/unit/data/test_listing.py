import contextlib
import dataclasses
import json
import os
import pickle
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.data.layout import load_schema
from daskmr.data.listing import InputFile, Selection, list_files
from daskmr.data.readers.suffixes import EXTENSIONS
from daskmr.errors import InputError

FILE = "idle/Firefox/beta/24.0/20131029.20131102.4f2e.log.gz"
DIMS = ("idle", "Firefox", "beta", "24.0", "20131029", "20131102")


def write(root, *paths, size=3):
    for path in paths:
        target = Path(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x" * size)


def allow(*values):
    """A schema whose first dimensions allow `values`."""
    dimensions = [{"field_name": f"f{n}", "allowed_values": v} for n, v in enumerate(values)]
    return load_schema({"version": 1, "dimensions": dimensions})


def listed(root, path, size, dims):
    """What is listed of the file at `path`."""
    found = os.stat(os.path.join(root, path))
    return InputFile(path, size, dims, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def paths(listing):
    return [file.path for file in listing.files]


@pytest.fixture
def flat(tmp_path):
    """Makes schemas of a layout with `directories` levels."""

    def make(directories, *values):
        path = tmp_path / f"layout{directories}.json"
        names = [{"field_name": f"d{n}"} for n in range(directories + 2)]
        path.write_text(json.dumps({"dimensions": names}))
        dimensions = [{"field_name": f"f{n}", "allowed_values": v} for n, v in enumerate(values)]
        return load_schema({"dimensions": dimensions}, path)

    return make


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def opened(monkeypatch):
    """The directories that were listed, as they were asked for."""
    calls = []
    scandir = os.scandir

    def spy(path="."):
        calls.append(os.path.normpath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    return calls


# What is listed


def test_file_with_its_size_and_dimensions(data):
    write(data, FILE, size=7)
    listing = list_files(data, load_schema())
    assert listing.files == (listed(data, FILE, 7, DIMS),)
    assert listing.root == str(data)
    assert (listing.skipped, listing.skipped_count) == ((), 0)


def test_input_file_is_frozen_and_travels():
    file = InputFile(FILE, 7, DIMS)
    assert pickle.loads(pickle.dumps(file)) == file
    with pytest.raises(dataclasses.FrozenInstanceError):
        file.size = 8
    assert not hasattr(file, "__dict__")


def test_order_is_that_of_the_paths_as_bytes(data, flat):
    names = ["a/1.1.gz", "a-b/1.1.gz", "a.b/1.1.gz", "a/1-.1.gz", "a0/1.1.gz", "\xe9/1.1.gz"]
    odd = [os.fsdecode(b"\xff/1.1.gz"), "\ue000/1.1.gz", "\U0001f600/1.1.gz"]
    write(data, *names, *odd)
    listed = paths(list_files(data, flat(1)))
    assert listed == sorted([*names, *odd], key=os.fsencode)
    assert listed[:3] == ["a-b/1.1.gz", "a.b/1.1.gz", "a/1-.1.gz"]


def test_equal_dimensions_share_one_tuple(data):
    write(data, *(f"idle/Firefox/beta/24.0/1.2.{n}.gz" for n in range(3)))
    write(data, "idle/Firefox/beta/25.0/1.2.0.gz")
    files = list_files(data, load_schema()).files
    assert files[0].dims is files[2].dims
    assert files[0].dims[0] is files[3].dims[0]
    assert files[0].dims[4] is files[3].dims[4]


@pytest.mark.parametrize("extension", [*sorted(EXTENSIONS), "GZ", "Json"])
def test_known_extensions(data, extension):
    write(
        data, f"idle/Firefox/beta/24.0/1.2.{extension}", f"idle/Firefox/beta/24.0/1.2.x.{extension}"
    )
    assert len(list_files(data, load_schema()).files) == 2


def test_layout_without_directories(data, flat):
    write(data, "1.2.gz", "2.2.gz", "sub/1.2.gz")
    listing = list_files(data, flat(0, "1"))
    assert listing.files == (listed(data, "1.2.gz", 3, ("1", "2")),)
    assert listing.skipped == ("sub/",)


# What is not in the layout


def test_what_does_not_fit_is_skipped_counted_and_named(data):
    last = "idle/Firefox/beta/24.0"
    files = [
        "README.md",
        "1.2.gz",
        "idle/1.2.gz",
        "idle/Firefox/1.2.gz",
        "idle/Firefox/beta/1.2.gz",
        f"{last}/1.gz",
        f"{last}/1..gz",
        f"{last}/README.md",
        f"{last}/1.2.parquet",
        f"{last}/1.2.",
        f"{last}/.1.2.gz",
        ".hidden",
    ]
    write(data, FILE, *files)
    write(data, f"{last}/sub/1.2.gz", f"{last}/sub/deep/1.2.gz", ".git/a/b/c/1.2.gz", "idle/.x/y")
    (data / "empty").mkdir()
    (data / "idle/Firefox/none").mkdir()
    (data / last / "nothing").mkdir()
    directories = [
        f"{last}/sub/",
        ".git/",
        "idle/.x/",
        "empty/",
        "idle/Firefox/none/",
        f"{last}/nothing/",
    ]
    listing = list_files(data, load_schema())
    assert paths(listing) == [FILE]
    assert listing.skipped == tuple(sorted([*files, *directories], key=os.fsencode))
    assert listing.skipped_count == len(listing.skipped)


def test_directories_that_do_not_fit_are_not_opened(data, opened):
    write(data, FILE, ".git/x", "idle/Firefox/beta/24.0/sub/x")
    list_files(data, load_schema())
    assert str(data / ".git") not in opened
    assert str(data / "idle/Firefox/beta/24.0/sub") not in opened


def test_skipped_names_are_capped_and_the_first_ones(data, flat):
    write(data, *(f"{n:05}" for n in range(1234)), size=0)
    listing = list_files(data, flat(0))
    assert listing.skipped_count == 1234
    assert listing.skipped == tuple(f"{n:05}" for n in range(1000))


def test_many_skipped_names_do_not_pile_up():
    selection = Selection(load_schema())
    for n in reversed(range(25_000)):
        selection.skip(f"{n:05}", "why")
    listing = selection.listing("/data")
    assert listing.skipped_count == 25_000
    assert listing.skipped == tuple(f"{n:05}" for n in range(1000))


def test_what_the_filter_excludes_is_not_skipped(data):
    write(
        data, FILE, "idle/Firefox/beta/24.0/9.2.gz", "idle/Firefox/beta/24.0/20131029.9.gz", "x/y"
    )
    listing = list_files(data, allow("idle", "*", "*", "*", "20131029", "20131102"))
    assert paths(listing) == [FILE]
    assert listing.skipped_count == 0


def test_what_is_no_regular_file_is_skipped(data, monkeypatch):
    write(data, FILE)
    os.mkfifo(data / "idle/Firefox/beta/24.0/1.2.gz")
    monkeypatch.chdir(data / "idle")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("sock")
        listing = list_files(data, load_schema())
    assert paths(listing) == [FILE]
    assert listing.skipped == ("idle/Firefox/beta/24.0/1.2.gz", "idle/sock")


# How the data directory may be given


def test_ways_to_name_the_data_directory(tmp_path, monkeypatch):
    real = tmp_path / "my dat\xe4 .x"
    write(real, FILE)
    (tmp_path / "link").symlink_to(real)
    monkeypatch.chdir(tmp_path)
    for given_as in [
        real,
        f"{real}/",
        f"{real}//",
        "my dat\xe4 .x",
        "./my dat\xe4 .x/",
        "link",
        "link/",
    ]:
        listing = list_files(given_as, load_schema())
        assert paths(listing) == [FILE]
        assert listing.root == os.path.abspath(given_as)
    assert listing.root == str(tmp_path / "link")


def test_names_with_spaces_unicode_and_odd_bytes(data):
    path = os.fsdecode(b"a b/\xc3\xa9/\xff/\n/1 .\xe2\x82\xac.gz")
    write(data, path)
    (file,) = list_files(data, load_schema()).files
    assert file.path == path
    assert file.dims == ("a b", "\xe9", "\udcff", "\n", "1 ", "\u20ac")


def test_empty_data_directory(data):
    listing = list_files(data, load_schema())
    assert (listing.files, listing.skipped_count) == ((), 0)
    assert "holds no file in the layout {reason}/{appName}" in listing.explain_nothing()


def test_data_directory_that_is_none(tmp_path):
    write(tmp_path, "file")
    for given_as, mistake in [
        (tmp_path / "none", f"{tmp_path}/none does not exist"),
        (tmp_path / "file", f"{tmp_path}/file is not a directory"),
        (tmp_path / "file" / "x", "cannot be read"),
        ("", "is empty"),
        ("a\0b", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=mistake):
            list_files(given_as, load_schema())


def deny(monkeypatch, denied):
    scandir = os.scandir

    def denying(path):
        if os.path.normpath(path) == str(denied):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denying)


@pytest.mark.parametrize("below", ["", "idle", "idle/Firefox/beta/24.0"])
def test_directory_that_cannot_be_listed(data, monkeypatch, below):
    write(data, FILE)
    deny(monkeypatch, data / below)
    with pytest.raises(InputError, match="Permission denied") as caught:
        list_files(data, load_schema())
    assert str(data / below) in str(caught.value)


def test_directory_that_cannot_be_listed_but_is_excluded(data, monkeypatch):
    write(data, FILE, "secret/x")
    deny(monkeypatch, data / "secret")
    assert paths(list_files(data, allow("idle"))) == [FILE]


def test_file_that_goes_away_meanwhile(data, monkeypatch):
    write(data, FILE)
    scandir = os.scandir

    @contextlib.contextmanager
    def vanishing(path):
        with scandir(path) as entries:
            held = list(entries)
        (data / FILE).unlink()
        yield held

    monkeypatch.setattr(os, "scandir", lambda p: vanishing(p) if "24.0" in p else scandir(p))
    with pytest.raises(InputError, match="cannot be read: No such file") as caught:
        list_files(data, load_schema())
    assert str(data / FILE) in str(caught.value)


# Only what may match is opened


def test_excluded_directories_are_not_opened(data, opened):
    write(data, FILE, "saved/Firefox/beta/24.0/1.2.gz", "idle/Fennec/beta/24.0/1.2.gz")
    write(data, "idle/Firefox/beta/25.0/1.2.gz")
    list_files(data, allow("idle", ["Firefox"], "*", {"max": 24.5}))
    assert opened == [
        str(data / below)
        for below in ("", "idle", "idle/Firefox", "idle/Firefox/beta", "idle/Firefox/beta/24.0")
    ]


names = st.sampled_from(["a", "b", "a-b", "a_b", ".h", "c.d"])
file_names = st.sampled_from(
    ["1.1.gz", "1.2.gz", "2.1.x.txt", "a-b.1.gz", "a_b.2.GZ", "1.gz", "1.1.md", ".1.1.gz", "x"]
)
tree_paths = st.tuples(st.lists(names, max_size=3), file_names).map(
    lambda t: "/".join([*t[0], t[1]])
)
folders = st.lists(names, min_size=1, max_size=3).map("/".join)
allowed_values = st.one_of(
    st.just("*"),
    st.sampled_from(["a", "a-b", "1", "zz"]),
    st.lists(st.sampled_from(["a", "b", "a-b", "1", "2"]), min_size=1, max_size=3),
    st.sampled_from([{"min": "a_"}, {"max": "a-c"}, {"min": 1, "max": "b"}, {"regex": "[ab12]"}]),
)


def matches(allowed, value):
    if isinstance(allowed, dict):
        if "regex" in allowed:
            return value in ("a", "b", "1", "2")
        return str(allowed.get("min", "")) <= value <= str(allowed.get("max", "~"))
    if allowed == "*":
        return True
    wanted = [allowed] if isinstance(allowed, str) else allowed
    return any(value in (one, one.replace("-", "_")) for one in wanted)


def walk_all(root, values):
    """Every file below `root` in the order of bytes, filtered afterwards."""
    found = []
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), root)
            *dims, last = path.split("/")
            parts = last.split(".")
            fits = len(dims) == 2 and len(parts) > 2 and not any(d[0] == "." for d in [*dims, last])
            if fits and parts[-1].lower() in ("gz", "txt"):
                dims += parts[:2]
                if all(map(matches, values, dims)):
                    found.append((path.encode(), tuple(dims)))
    return sorted(found)


def build(root, tree, empty):
    for path in [*empty, *tree]:
        target = Path(root, path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir() if path in empty else target.write_bytes(b"x")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # a file where the tree wants a directory, or the other way round


@settings(max_examples=60, deadline=None)
@given(
    st.sets(tree_paths, max_size=12),
    st.sets(folders, max_size=2),
    st.lists(allowed_values, max_size=4),
)
def test_pruned_listing_equals_filtered_walk(tree, empty, values):
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        layout = Path(root, "layout.json")
        layout.write_text(json.dumps({"dimensions": [{"field_name": f"d{n}"} for n in range(4)]}))
        dimensions = [{"field_name": "x", "allowed_values": value} for value in values]
        schema = load_schema({"dimensions": dimensions}, layout)
        data = os.path.join(root, "data")
        os.mkdir(data)
        build(data, sorted(tree), sorted(empty))
        expected = walk_all(data, values)
        scandir, asked = os.scandir, []
        patch.setattr(os, "scandir", lambda path: asked.append(path) or scandir(path))
        listing = list_files(data, schema)
        patch.undo()
        assert [(file.path.encode(), file.dims) for file in listing.files] == expected
        for path in asked:
            below = [part for part in os.path.relpath(path, data).split("/") if part != "."]
            assert len(below) <= 2
            assert not any(part.startswith(".") for part in below)
            assert all(map(matches, values, below))
        assert len(asked) == len(set(asked))
        assert bool(listing.files) or str(listing.explain_nothing())


# Links


def link(at, to):
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(to)


def test_links_to_directories_and_files_are_followed(tmp_path, data):
    write(tmp_path / "other", "Firefox/beta/24.0/1.2.gz", "plain.gz", size=5)
    link(data / "idle", tmp_path / "other")
    link(data / "saved/Firefox/beta/24.0/3.4.gz", tmp_path / "other/plain.gz")
    files = list_files(data, load_schema()).files
    assert files == (
        listed(data, "idle/Firefox/beta/24.0/1.2.gz", 5, ("idle", *DIMS[1:4], "1", "2")),
        listed(data, "saved/Firefox/beta/24.0/3.4.gz", 5, ("saved", *DIMS[1:4], "3", "4")),
    )


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_name_without_a_link_is_preferred(data, name):
    write(data, FILE)
    link(data / name, "idle")
    link(data / f"idle/Firefox/beta/24.0/{name}.1.gz", data / FILE)
    assert paths(list_files(data, load_schema())) == [FILE]


def test_link_stands_where_the_plain_name_is_excluded(data):
    write(data, FILE)
    link(data / "zzz", "idle")
    link(data / "yyy", "idle")
    listing = list_files(data, allow(["yyy", "zzz"]))
    assert paths(listing) == [FILE.replace("idle", "yyy")]
    assert listing.files[0].dims == ("yyy", *DIMS[1:])


def test_several_links_to_one_file_outside(tmp_path, data):
    write(tmp_path, "file")
    for name in ("2.1.gz", "1.1.gz", "1.1-.gz"):
        link(data / "idle/Firefox/beta/24.0" / name, tmp_path / "file")
    assert paths(list_files(data, load_schema())) == ["idle/Firefox/beta/24.0/1.1-.gz"]


def test_data_directory_is_a_link_and_holds_links(tmp_path, data):
    write(data, FILE)
    link(data / "zzz", "idle")
    link(tmp_path / "link", data)
    link(data / "yyy", tmp_path / "link/idle")
    assert paths(list_files(tmp_path / "link", load_schema())) == [FILE]


LINKED = ["data/p/", "data/q/", "data/l/", "data/m/", "data/n/"]
link_targets = st.sampled_from(["data/p", "data/q", "data/l", "out", "out/deep", "out/1.1.gz"])
file_targets = st.sampled_from(
    ["data/p/1.1.gz", "data/l/2.2.gz", "data/m/9.9.gz", "out/1.1.gz", "out/deep/2.2.gz"]
)


@settings(max_examples=50, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(LINKED[2:], link_targets)),
    st.dictionaries(
        st.tuples(st.sampled_from(LINKED), st.sampled_from(["0.0.gz", "9.9.gz"])).map("".join),
        file_targets,
        max_size=4,
    ),
)
def test_no_file_twice_and_the_plainest_name_of_each(folder_links, file_links):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(os.path.realpath(folder))
        for place in ("data/p", "data/q", "out", "out/deep"):
            write(root, f"{place}/1.1.gz", f"{place}/2.2.gz")
        for name, target in folder_links.items():
            (root / name[:-1]).symlink_to(root / target)
        for name, target in file_links.items():
            with contextlib.suppress(OSError):  # into a folder that is none
                (root / name).symlink_to(root / target)
        layout = root / "layout.json"
        layout.write_text(json.dumps({"dimensions": [{"field_name": f"d{n}"} for n in range(3)]}))
        names = {}
        for name in (path for place in (root / "data").iterdir() for path in place.glob("*.gz")):
            if name.is_file():
                path = os.path.relpath(name, root / "data")
                real = os.path.realpath(name)
                names.setdefault(real, []).append((real != str(name), path))
        listing = list_files(root / "data", load_schema(None, layout))
        assert paths(listing) == sorted(min(found)[1] for found in names.values())


def test_links_to_ancestors_end(data, flat):
    write(data, "a/b/1.2.gz", "a/3.4.gz", "1.2.gz")
    link(data / "a/up", data)
    link(data / "a/self", ".")
    link(data / "root", ".")
    link(data / "above", "..")
    listing = list_files(data, flat(2))
    assert paths(listing) == ["a/b/1.2.gz"]
    assert {"a/up/", "a/self/", "root/", "above/data/"} <= set(listing.skipped)


def test_links_that_lead_nowhere_are_skipped(data):
    write(data, FILE)
    link(data / "idle/Firefox/beta/24.0/1.2.gz", "none")
    link(data / "idle/Firefox/beta/24.0/1.3.gz", "1.3.gz")
    link(data / "idle/none", "/no/such/place")
    link(data / "round", "round")
    link(data / "through", data / FILE / "x")
    listing = list_files(data, load_schema())
    assert paths(listing) == [FILE]
    assert listing.skipped == (
        "idle/Firefox/beta/24.0/1.2.gz",
        "idle/Firefox/beta/24.0/1.3.gz",
        "idle/none",
        "round",
        "through",
    )


def test_link_to_a_file_among_directories_is_skipped(data):
    write(data, FILE)
    link(data / "idle/1.2.gz", data / FILE)
    link(data / "idle/Firefox/beta/24.0/dir", data)
    assert list_files(data, load_schema()).skipped == ("idle/1.2.gz", "idle/Firefox/beta/24.0/dir/")


# Why there is nothing


def explain(data, schema):
    listing = list_files(data, schema)
    assert listing.files == ()
    return listing.explain_nothing()


@pytest.mark.parametrize(
    ("position", "existing"),
    [
        (1, "'idle'"),
        (2, "'Firefox'"),
        (3, "'beta', 'nightly'"),
        (4, "'24.0'"),
        (5, "'1'"),
        (6, "'2'"),
    ],
)
def test_the_dimension_that_excluded_the_last(data, position, existing):
    write(data, "idle/Firefox/beta/24.0/1.2.gz", "idle/Firefox/nightly/24.0/1.2.gz")
    message = explain(
        data, allow(*["*"] * (position - 1), ["x", "y-z"], *["nor this"] * (6 - position))
    )
    name = load_schema().layout.field_names[position - 1]
    assert f"dimension {position} (f{position - 1}, in the layout {name})" in message
    assert "allows 'x' or 'y-z'" in message
    assert f"existing there: {existing}." in message
    assert str(data) in message


def test_the_deepest_branch_is_explained(data):
    write(data, "a/Firefox/beta/24.0/1.2.gz", "b/Fennec/beta/24.0/1.2.gz", "c/Other/x/y/1.2.gz")
    message = explain(data, allow(["a", "b"], "Fennec", "beta", "99"))
    assert "dimension 4 (f3, in the layout appVersion) allows '99'" in message
    assert "existing there: '24.0'." in message


def test_what_is_allowed_holds_nothing(data):
    write(data, "a/README.md", FILE)
    message = explain(data, allow("a"))
    assert "dimension 1" in message
    assert "allows 'a', where no file in the layout was found" in message
    assert "existing there: 'a', 'idle'." in message


def test_no_file_in_the_layout_at_all(data):
    write(data, "README.md", "idle/x", "idle/y", "idle/z")
    message = explain(data, allow("*"))
    assert "holds no file in the layout {reason}" in message
    reason = "because it is a file, where the layout has a directory"
    assert f"Not in the layout: 4 ('README.md', {reason} {{reason}}; 'idle/x', " in message


def test_many_existing_values_are_capped(data):
    write(data, *(f"idle/Firefox/beta/24.0/{n:03}.1.gz" for n in range(100)))
    listing = list_files(data, allow("*", "*", "*", "*", "x"))
    assert listing.seen[4].distinct == 100
    assert listing.seen[4].candidates == 100
    assert listing.seen[4].allowed == 0
    assert len(listing.seen[4].values) == 20
    message = listing.explain_nothing()
    assert "'000', '001'" in message
    assert "'009', ..., '090'" in message
    assert "'099' (100 values)" in message


def test_repeated_values_are_counted(data):
    write(data, *(f"{a}/Firefox/beta/24.0/{n % 3}.{n % 2}.{n}.gz" for n in range(30) for a in "xy"))
    listing = list_files(data, allow("*", "*", "*", "*", ["0", "1"], "1"))
    assert [(seen.candidates, seen.allowed) for seen in listing.seen[3:]] == [
        (2, 2),
        (60, 40),
        (40, 20),
    ]
    assert len(listing.files) == 20
    assert len({id(file.dims) for file in listing.files}) == 4  # they are shared


# What differs only in its Unicode normal form

COMPOSED, DECOMPOSED = "caf\xe9", "cafe\u0301"


@pytest.mark.parametrize(("there", "given"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
@pytest.mark.parametrize("position", range(6))
def test_a_value_in_another_normal_form_is_named_as_that(data, there, given, position):
    parts = ["a", "b", "c", "d", "e", "f"]
    parts[position] = there
    write(data, "{}/{}/{}/{}/{}.{}.gz".format(*parts))
    message = explain(data, allow(*["*"] * position, given))
    assert f"{there!a} exists, the filter allows {given!a}" in message
    assert "Unicode normal form" in message
    advised = json.loads(message[message.index("to read both, allow ") + 20 :].rstrip("."))
    (file,) = list_files(data, allow(*["*"] * position, advised)).files
    assert file.dims == tuple(parts)


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ([COMPOSED, "idle"], [DECOMPOSED]),
        (["idle", COMPOSED], ["cafe_"]),  # as the storage writes the other form
        ({"regex": COMPOSED + "|idle"}, [DECOMPOSED]),
        ({"min": COMPOSED, "max": "zz"}, [DECOMPOSED]),
        (COMPOSED, [COMPOSED, DECOMPOSED]),
    ],
)
def test_what_is_left_out_by_its_normal_form_is_noted(data, values, there):
    for name in [*there, "idle", "other"]:
        write(data, f"{name}/Firefox/beta/24.0/1.2.gz")
    (note,) = list_files(data, allow(values)).explain_variants()
    assert note.startswith(f"dimension 1 (f0) excludes {there[-1]!r}, which differs")
    assert list_files(data, allow([*there, "idle", COMPOSED])).explain_variants() == ()


def test_variants_are_found_among_many_values(data):
    write(data, *(f"{n:03}/Firefox/beta/24.0/1.2.gz" for n in range(40)))
    write(data, f"050{DECOMPOSED}/Firefox/beta/24.0/1.2.gz", "zz/Firefox/beta/24.0/1.2.gz")
    assert "Unicode normal form" in explain(data, allow(f"050{COMPOSED}"))
    assert "Unicode" not in explain(data, allow("050cafe"))


def test_a_data_directory_in_another_normal_form_is_named(tmp_path):
    (tmp_path / DECOMPOSED).mkdir()
    with pytest.raises(InputError, match="does not exist") as failure:
        list_files(tmp_path / COMPOSED, allow())
    assert f"There is {f'{tmp_path}/{DECOMPOSED}'!r}, which differs only" in str(failure.value)


def test_a_data_directory_that_is_a_url():
    with pytest.raises(InputError, match=r"use --bucket s3://name/a$"):
        list_files("s3://name/a", allow())


@pytest.mark.parametrize("given", ["flat", "{_}/{_}/{_}", "{day}/{rest...}"])
def test_what_daskmr_wrote_is_skipped_in_any_layout(tmp_path, given):
    names = (
        "a/b/x.log",
        "a/_b/x.log",
        "a/b/_SUCCESS",
        "a/_metadata",  # marks are not mentioned
        "a/b/x.txt.meta.json",
        "a/work/x.log",
    )
    for name in (*names, "a/.b/x.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("k\t1\n")
    listing = list_files(tmp_path, load_schema(layout=given), str(tmp_path / "a" / "work"))
    assert [file.path for file in listing.files] == ["a/b/x.log"]
    assert dict(zip(listing.skipped, listing.reasons, strict=True)) == {
        "a/.b/": "its name begins with a dot",
        "a/_b/": "its name begins with _",
        "a/b/x.txt.meta.json": "it was written by daskmr",
    }


def test_a_walk_reports_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daskmr.data.listing._PROGRESS_SECONDS", -1)
    for path in ("a/x.log", "a/y.log", "b/z.log"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    seen: list[tuple[int, int]] = []
    schema = load_schema(layout="{name}/{_}")
    list_files(tmp_path, schema, on_progress=lambda *each: seen.append(each))
    assert [directories for directories, _ in seen] == [1, 2, 3]
    assert seen[-1][1] in (1, 2)  # those of the directories before
