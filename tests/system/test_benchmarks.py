"""What is compared with the examples gives the same output, byte for byte."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import ROOT

from benchmarks.quick_store import QuickStore
from daskmr import mapreduce
from daskmr.cli.sample.files import write_sample
from daskmr.store.store import ChangedObject, InMemory, MissingObject, Store, parse_source

BY_HAND = ROOT / "benchmarks" / "by_hand.py"
SCRIPTS = sorted(  # those that read the packaged layout
    path.stem
    for path in (ROOT / "examples").glob("*.py")
    if re.search(r"daskmr run .* -f ", path.read_text("utf-8"))
)


def by_hand(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BY_HAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("benchmarks") / "sample"
    write_sample(root, 1_500_000, seed=0, bad_lines=0.03)
    again = next(root.rglob("*.gz"))  # so that there are duplicates
    again.with_name(f"20131101.20131102.{again.name}").write_bytes(again.read_bytes())
    return root


@pytest.mark.parametrize("script", SCRIPTS)
def test_same_bytes(script: str, sample: Path, tmp_path: Path) -> None:
    path = ROOT / "examples" / f"{script}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    input_filter = re.search(r" -f (\S+)", docstring)
    assert input_filter is not None
    mapreduce(
        path,
        data_dir=sample,
        input_filter=ROOT / input_filter[1],
        output=tmp_path / "daskmr",
        inline=True,
        work_dir=tmp_path / "work",
    )
    completed = by_hand(script, sample, tmp_path / "by_hand")
    assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "by_hand").read_bytes() == (tmp_path / "daskmr").read_bytes() != b""


def test_usage_names_the_examples() -> None:
    completed = by_hand("no_such_job", "sample", "output")
    assert completed.returncode == 1
    for script in SCRIPTS:
        assert script in completed.stderr


def test_the_quick_store_answers_as_s3_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bucket" / "idle & so on"
    folder.mkdir(parents=True)
    for number in range(1100):
        (folder / f"{number:04}").write_bytes(b"%d" % number)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with QuickStore(tmp_path, 0.0) as quick:
        source = parse_source("bucket", endpoint_url=quick.url)
        with Store(source, retries=0) as store:
            assert [[entry.name for entry in page] for page in store.list("")] == [["idle & so on"]]
            pages = list(store.list("idle & so on/"))
            assert [len(page) for page in pages] == [1000, 100]
            last = pages[1][-1]
            found = InMemory("last")
            store.fetch(f"idle & so on/{last.name}", last.etag, last.size, found)
            assert found.getvalue() == b"1099"
            with pytest.raises(ChangedObject):
                store.fetch(f"idle & so on/{last.name}", "0" * 32, last.size, found)
            with pytest.raises(MissingObject):
                store.fetch("idle & so on/none", last.etag, last.size, found)
