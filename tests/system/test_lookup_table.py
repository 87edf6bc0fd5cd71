"""A job with a lookup table of 200 MB gives the same bytes wherever it runs.

The scheduler and the workers of the cluster run in a mount namespace in which an empty file system covers
the folder of the script, the table and the work dir. So they cannot open any of these by any path, as
if they were on another machine; only the input is on a disk that they share with the command.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from distributed import Client
from support.dask_cluster import DaskCluster
from support.jobs import daskmr

from daskmr.run.provenance import read_meta

pytestmark = pytest.mark.slow

SCRIPT = '''
"""What do the orders of each category cost? products.dat has the category and the price of each product."""
import mmap
from daskmr import file
from daskmr.reducers import total

files = ["products.dat"]
WIDTH = 40  # bytes of a row

with open(file("products.dat"), "rb") as table:
    PRODUCTS = mmap.mmap(table.fileno(), 0, access=mmap.ACCESS_READ)

def map(key, dims, value, context):
    start = WIDTH * int(value)
    category, price = PRODUCTS[start : start + WIDTH].split()
    context.write(category.decode(), int(price))

reduce = total
combine = total.combine
'''
ROWS, WIDTH = 5_000_000, 40
ORDERS, FILES = 40_000, 16


def category_of(product: int) -> str:
    return f"category-{product * 31 % 97:02}"


def price_of(product: int) -> int:
    return product * 7919 % 1000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the orders, and one below it, with the script and the table, to be hidden."""
    place = tmp_path_factory.mktemp("lookup")
    (place / "private").mkdir()
    (place / "private" / "job.py").write_text(SCRIPT)
    with (place / "private" / "products.dat").open("w") as table:
        for start in range(0, ROWS, 100_000):
            rows = range(start, start + 100_000)
            table.write("".join(f"{category_of(n)} {price_of(n)}\n".rjust(WIDTH) for n in rows))
    assert (place / "private" / "products.dat").stat().st_size == 200_000_000
    (place / "data").mkdir()
    products = orders()
    for number in range(FILES):
        lines = [f"{n}\t{products[n]}\n" for n in range(number, ORDERS, FILES)]
        (place / "data" / f"{number:02}.tsv").write_text("".join(lines))
    return place


def orders() -> list[int]:
    draw = random.Random(5)
    return [draw.randrange(ROWS) for _ in range(ORDERS)]


@pytest.fixture(scope="module")
def expected() -> bytes:
    sums: Counter[str] = Counter()
    for product in orders():
        sums[category_of(product)] += price_of(product)
    return "".join(f"{category}\t{sums[category]}\n" for category in sorted(sums)).encode()


@pytest.fixture(scope="module")
def cluster(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A cluster that does not see the private folder, whose two workers are on one host."""
    private = place / "private"
    host = tmp_path_factory.mktemp("host")
    cluster = DaskCluster(host / "cluster", 0, unseen=private)
    try:
        for _ in range(2):
            cluster.start_worker("--local-directory", str(host / "local"))
        yield cluster
    finally:
        cluster.stop()


def run(place: Path, *words: str) -> bytes:
    private = place / "private"
    words = ("-d", "../data", "--layout", "flat", "-w", "work", "-o", "out.tsv.txt", *words)
    done = daskmr("run", "job.py", *words, cwd=private, timeout=300)
    assert done.returncode == 0, done.stderr
    meta = read_meta(str(private / "out.tsv.txt.meta.json"))
    digest = sha256((private / "products.dat").read_bytes()).hexdigest()
    assert meta["files"]["products.dat"]["sha256"] == digest
    assert not (private / "work").exists()
    return (private / "out.tsv.txt").read_bytes()


def peak(pid: int) -> int:
    """The most memory in bytes that a process has ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.parametrize("where", [["--inline"], ["-m", "2"], ["-m", "1", "-r", "3"]])
def test_on_this_machine(place: Path, expected: bytes, where: list[str]) -> None:
    assert run(place, *where) == expected


def test_on_a_cluster_that_sees_only_the_input(
    place: Path, expected: bytes, cluster: DaskCluster
) -> None:
    private = str(place / "private")
    with Client(cluster.address, set_as_default=False) as client:
        assert client.run_on_scheduler(os.listdir, private) == []
        assert [*client.run(os.listdir, private).values()] == [[], []]
    before = peak(cluster.scheduler.popen.pid)
    assert run(place, "--scheduler", cluster.address) == expected
    assert peak(cluster.scheduler.popen.pid) - before < 50_000_000
    assert not [*cluster.folder.parent.rglob("products.dat")]


def test_on_a_cluster_that_sees_the_work_dir(
    place: Path, expected: bytes, cluster: DaskCluster
) -> None:
    words = ("--scheduler", cluster.address, "-w", str(place / "work"))
    assert run(place, *words) == expected
    assert not (place / "work").exists()
