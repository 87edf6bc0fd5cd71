"""The sample data: the same bytes for the same seed, in the layout, with what real data has in it."""

from __future__ import annotations

import bz2
import collections
import gzip
import hashlib
import itertools
import json
import lzma
import os
import re
from pathlib import Path

import pytest
import zstandard

from daskmr.cli.sample import documents as kind_documents
from daskmr.cli.sample import files
from daskmr.cli.sample.files import SampleSummary, write_sample
from daskmr.errors import InputError, JobError

SIZE = 3_000_000
PATH = re.compile(
    r"(saved_session|idle_daily)/(Firefox|Fennec|Thunderbird)/(release|beta|aurora|nightly)/[0-9.a]+/"
    r"\d{14}\.\d{8}\.v2\.log\.[0-9a-f]{32}\.log"
)
READERS = {
    "gz": gzip.decompress,
    "xz": lzma.decompress,
    "lzma": lzma.decompress,
    "bz2": bz2.decompress,
    "zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    "log": bytes,
    "jsonl": bytes,
}


def contents(root: Path) -> dict[str, bytes]:
    """The plain bytes of each file, by its path without the extension."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).with_suffix("").as_posix(): READERS[path.suffix[1:]](
            path.read_bytes()
        )
        for path in files
    }


def lines_of(root: Path) -> list[bytes]:
    return [line for data in contents(root).values() for line in data.split(b"\n")[:-1]]


def documents_of(root: Path) -> list[dict]:
    return [json.loads(line.split(b"\t", 1)[1]) for line in lines_of(root)]


def digest(root: Path) -> str:
    whole = hashlib.sha256()
    for name, data in contents(root).items():
        whole.update(f"{name} {len(data)}\n".encode() + data)
    return whole.hexdigest()


def is_bad(line: bytes) -> bool:
    _, tab, value = line.decode("utf-8", "surrogateescape").partition("\t")
    if not tab:
        return True
    try:
        json.loads(value)
    except ValueError:
        return True
    return False


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, SampleSummary]:
    root = tmp_path_factory.mktemp("sample") / "data"
    return root, write_sample(root, size=SIZE, extensions=["log"])


# The same bytes


def test_the_bytes_of_a_seed_are_pinned(tmp_path):
    write_sample(tmp_path, size=150_000, seed=7, bad_lines=0.1)
    assert digest(tmp_path) == "2005576289b193ce7ef271f13986f0fd13e02a4101a7d7a3c74a3aecfc073821"


def test_the_extension_changes_nothing_else(tmp_path):
    write_sample(tmp_path / "a", size=700_000, extensions=["log"])
    write_sample(
        tmp_path / "b", size=700_000, extensions=["gz", "xz", "lzma", "bz2", "zst", "jsonl"]
    )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert {path.suffix for path in (tmp_path / "b").rglob("*.log.*")} == {
        ".gz",
        ".xz",
        ".lzma",
        ".bz2",
        ".zst",
        ".jsonl",
    }


def test_gzip_files_are_the_same_bytes_at_another_time(tmp_path, monkeypatch):
    write_sample(tmp_path / "a", size=50_000)
    monkeypatch.setattr("time.time", lambda: 0.0)
    write_sample(tmp_path / "b", size=50_000)
    (first,), (second,) = ([*(tmp_path / name).rglob("*.gz")] for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": -1}, {"size": 60_000}, {"bad_lines": 0.5}])
def test_another_seed_size_or_share_gives_other_bytes(tmp_path, other):
    write_sample(tmp_path / "a", size=50_000)
    write_sample(tmp_path / "b", **{"size": 50_000, **other})
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_the_sample_does_not_depend_on_how_much_is_joined(tmp_path, monkeypatch):
    write_sample(tmp_path / "a", size=100_000)
    monkeypatch.setattr(files, "CHUNK_BYTES", 1)
    write_sample(tmp_path / "b", size=100_000)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


# Layout and size


def test_files_are_in_the_layout(written):
    root, summary = written
    paths = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    assert len(paths) == summary.files > 10
    assert all(PATH.fullmatch(path) for path in paths)


def test_the_layout_says_what_is_in_the_documents(written):
    root, _ = written
    for name, data in contents(root).items():
        reason, app, channel, version, file = name.split("/")
        for line in data.split(b"\n")[:-1]:
            info = json.loads(line.split(b"\t", 1)[1])["info"]
            assert info["reason"].replace("-", "_") == reason
            assert (info["appName"], info["appUpdateChannel"], info["appVersion"]) == (
                app,
                channel,
                version,
            )
            assert info["appBuildID"] == file.split(".")[0]
            assert (info["OS"] == "Android") == (app == "Fennec")


def test_builds_are_not_younger_than_their_submission(written):
    root, _ = written
    for name in contents(root):
        build, submitted = name.rsplit("/", 1)[1].split(".")[:2]
        assert build[:8] <= submitted


def test_file_sizes_are_skewed(written):
    root, _ = written
    sizes = sorted(map(len, contents(root).values()))
    assert sizes[-1] > 2.5 * sizes[0]


def test_the_number_of_files_grows_with_the_size():
    numbers = [
        len(kind_documents._plan(size, 0))
        for size in (1, 1_000_000, 20_000_000, 300_000_000, 1_500_000_000)
    ]
    assert numbers == [1, 9, 41, 182, 477]


def test_the_largest_file_has_about_a_tenth():
    plan = kind_documents._plan(20_000_000, 0)
    ends = [0, *(file.end for file in plan)]
    largest = max(end - start for start, end in itertools.pairwise(ends))
    assert 0.08 < largest / ends[-1] < 0.13


@pytest.mark.parametrize("size", [50_000, 123_456, 1_000_000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_size_is_met_from_above(tmp_path, size, seed):
    summary = write_sample(tmp_path, size=size, seed=seed, extensions=["log"])
    data = contents(tmp_path).values()
    assert summary.bytes == sum(map(len, data)) == summary.compressed_bytes
    assert summary.records == sum(map(bytes.count, data, [b"\n"] * len(data)))
    assert size <= summary.bytes <= size * 1.02
    assert all(data)


def test_one_byte_is_one_record(tmp_path):
    summary = write_sample(tmp_path, size=1)
    assert (summary.files, summary.records) == (1, 1)
    assert len(documents_of(tmp_path)) == 1


def test_the_summary_counts_what_is_on_disk(tmp_path):
    summary = write_sample(tmp_path, size=200_000)
    assert summary.compressed_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.gz"))
    assert summary.compressed_bytes < summary.bytes / 3


# Documents


def test_documents_are_valid_and_have_the_sections(written):
    root, summary = written
    documents = documents_of(root)
    assert len(documents) == summary.records
    for document in documents:
        assert list(document) == [
            "ver", "info", "simpleMeasurements", "histograms", "slowSQL",
            "addonDetails", "chromeHangs", "lateWrites", "addonHistograms",
        ]  # fmt: skip
        assert 10 <= len(document["histograms"]) <= 60
        assert isinstance(document["simpleMeasurements"]["uptime"], int)


def test_documents_are_some_kilobytes(written):
    root, _ = written
    sizes = sorted(map(len, lines_of(root)))
    assert 2_000 < sizes[0] < 3_500
    assert 7_000 < sizes[-1] < 12_000
    assert 4_000 < sum(sizes) / len(sizes) < 6_000


def test_histograms_have_their_form(written):
    root, _ = written
    lengths = collections.defaultdict(set)
    for document in documents_of(root):
        for name, values in document["histograms"].items():
            lengths[name].add(len(values))
            assert all(isinstance(value, int) and value >= 0 for value in values[:-5])
            assert (values[-5] > 0) == any(values[1:-5])
    assert all(len(different) == 1 for different in lengths.values())
    assert lengths["GC_MS"] == {55}
    assert lengths["MOZ_SQLITE_COOKIES_READ_MS"] == {15}
    assert lengths["STARTUP_CRASH_DETECTED"] == {8}


def test_slow_sql_has_counts_and_durations(written):
    root, _ = written
    slow = [document["slowSQL"] for document in documents_of(root)]
    entries = [
        entry
        for sql in slow
        for thread in ("mainThread", "otherThreads")
        for entry in sql[thread].items()
    ]
    assert len({statement for statement, _ in entries}) > 10
    assert all(total >= 100 * times > 0 for _, (times, total) in entries)


def test_names_are_in_many_scripts_raw_and_escaped(written):
    root, _ = written
    raw = b"".join(lines_of(root))
    for name in ("переводчик", "メモ帳", "标签页", "🦊", "Éditeur"):
        assert name.encode() in raw
        assert json.dumps(name)[1:-1].encode() in raw


def test_common_values_are_common(written):
    root, _ = written
    infos = [document["info"] for document in documents_of(root)]

    def ranking(field: str) -> list[str]:
        return [
            value for value, _ in collections.Counter(info[field] for info in infos).most_common()
        ]

    assert ranking("OS")[0] == "WINNT"
    assert set(ranking("OS")) == {"WINNT", "Darwin", "Linux", "Android"}
    assert ranking("appName")[:2] == ["Firefox", "Fennec"]
    assert ranking("reason") == ["saved-session", "idle-daily"]
    assert ranking("appUpdateChannel")[:2] == ["release", "beta"]
    assert set(ranking("appUpdateChannel")) == {"release", "beta", "aurora", "nightly"}
    assert ranking("locale")[0] == "en-US"


def test_documents_vary(written):
    root, summary = written
    values = {json.dumps(document["simpleMeasurements"]) for document in documents_of(root)}
    assert len(values) > 0.95 * summary.records


def test_there_are_several_submission_dates(written):
    root, _ = written
    dates = {name.rsplit("/", 1)[1].split(".")[1] for name in contents(root)}
    assert len(dates) > 5


def test_some_ids_come_twice_also_in_another_file(tmp_path, monkeypatch):
    root = tmp_path / "data"
    monkeypatch.setattr(kind_documents, "DUPLICATES", 2**32 // 20)
    write_sample(root, size=1_000_000, extensions=["log"])
    found = collections.defaultdict(list)
    for name, data in contents(root).items():
        for line in data.split(b"\n")[:-1]:
            found[line.split(b"\t")[0]].append(name)
    repeated = [names for names in found.values() if len(names) > 1]
    assert repeated
    assert any(len(set(names)) > 1 for names in repeated)


def test_one_id_in_two_hundred_is_a_repeated_one():
    records = kind_documents._Records(1, 0, 0.0)
    ids = [records._document_id() for _ in range(20_000)]
    assert all(
        re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}", key)
        for key in ids
    )
    assert 0.004 < 1 - len(set(ids)) / len(ids) < 0.006


# Bad lines


def test_bad_lines_are_bad_records_of_all_kinds(tmp_path):
    summary = write_sample(tmp_path, size=1_000_000, extensions=["log"], bad_lines=0.2)
    lines = lines_of(tmp_path)
    bad = [line for line in lines if is_bad(line)]
    assert (len(lines), len(bad)) == (summary.records, summary.bad_lines)
    assert 0.1 < len(bad) / len(lines) < 0.3
    kinds = collections.Counter(kind_of(line) for line in bad)
    assert set(kinds) == {"no tab", "truncated", "empty", "not UTF-8"}
    assert max(kinds.values()) - min(kinds.values()) <= 1


def kind_of(line: bytes) -> str:
    if not line:
        return "empty"
    if b"\t" not in line:
        return "no tab"
    return "not UTF-8" if b"\xff" in line else "truncated"


def test_all_lines_can_be_bad(tmp_path):
    summary = write_sample(tmp_path, size=100_000, extensions=["log"], bad_lines=1.0)
    assert summary.bad_lines == summary.records
    assert all(map(is_bad, lines_of(tmp_path)))


def test_no_line_is_bad_unless_asked(written):
    root, summary = written
    assert summary.bad_lines == 0
    assert not any(map(is_bad, lines_of(root)))


# Mistakes and failures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "at least 1 byte"),
        ({"size": -5}, "at least 1 byte"),
        ({"bad_lines": -0.1}, "between 0.0 and 1.0"),
        ({"bad_lines": 1.1}, "between 0.0 and 1.0"),
        ({"bad_lines": float("nan")}, "between 0.0 and 1.0"),
        ({"extensions": ["gz", "zip"]}, "'zip'. Use one of gz, xz"),
        ({"extensions": "gz"}, "must be a list"),
    ],
)
def test_a_parameter_out_of_range_is_an_error_before_anything_is_written(
    tmp_path, options, message
):
    with pytest.raises(InputError, match=message):
        write_sample(tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


def test_a_missing_directory_is_created(tmp_path):
    write_sample(tmp_path / "a b" / "données", size=1)
    assert (tmp_path / "a b" / "données").is_dir()


@pytest.mark.parametrize("name", ["README.md", ".hidden"])
def test_two_samples_never_mix(tmp_path, name):
    (tmp_path / name).write_text("something")
    with pytest.raises(InputError, match=f"not empty .it contains {name}"):
        write_sample(tmp_path, size=1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_an_error(tmp_path, below):
    (tmp_path / "data").write_text("something")
    with pytest.raises(InputError, match="which is or is below a file"):
        write_sample(tmp_path / "data" / below, size=1)


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_fails_the_job_and_leaves_no_part(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(
        JobError, match=r"(?s)data/.*\.gz cannot be written: No space left on device"
    ):
        write_sample(tmp_path / "data", size=1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_directory_that_cannot_be_made_fails_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: refuse())
    with pytest.raises(JobError, match="data cannot be used for the sample: No space left"):
        write_sample(tmp_path / "data", size=1)


def test_an_interruption_leaves_no_part(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kind_documents, "_fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path, size=1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
