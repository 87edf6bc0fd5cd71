"""Each workload written by hand: two processes, a dict, and nothing else.

python floor.py WORKLOAD DATA_DIR OUTPUT
"""

import json
import sys
from collections import Counter, defaultdict
from multiprocessing import Pool
from pathlib import Path

from isal import igzip

PROCESSES = 2


def main(workload, data_dir, output):
    read, finish = WORKLOADS[workload]
    paths = [str(path) for path in sorted(Path(data_dir).glob("*/*/*/*/*.gz"))]
    with Pool(PROCESSES) as pool, open(output, "w", encoding="utf-8") as file:
        file.writelines(f"{key}\t{value}\n" for key, value in finish(pool.imap(read, paths)))


def records(path):
    with igzip.open(path) as lines:
        for line in lines:
            key, _, value = line.decode().rstrip("\r\n").partition("\t")
            yield key, value


def count(path):
    with igzip.open(path) as lines:
        return {"records": sum(b"\t" in line for line in lines)}


def os(path):
    return Counter(json.loads(value)["info"]["OS"] for _, value in records(path))


def ids(path):
    return Counter(key for key, _ in records(path))


def words(path):
    counts = Counter()
    for _, value in records(path):
        counts.update(value.split())
    return counts


def add_counts(results):
    totals = {}
    for counts in results:
        for key, number in counts.items():
            totals[key] = totals.get(key, 0) + number
    return sorted(totals.items())


def median(path):
    values = defaultdict(list)
    for key, value in records(path):
        values[key].append(value)
    return values


def hotkey(path):
    values = defaultdict(list)
    for key, value in records(path):
        values["hot" if int(value[:9]) % 5 else key].append(value)
    return values


def collect(results):
    groups = defaultdict(list)
    for values in results:
        for key, found in values.items():
            groups[key] += found
    return sorted(groups.items())


def medians(results):
    return ((key, sorted(values)[len(values) // 2][:9]) for key, values in collect(results))


def sums(results):
    return ((key, sum(int(value[:9]) for value in values)) for key, values in collect(results))


def maponly(path):
    rows = []
    for key, value in records(path):
        info = json.loads(value)["info"]
        rows.append((key, info["OS"] + " " + info["appVersion"]))
    return rows


def chain(results):
    return (row for rows in results for row in rows)


WORKLOADS = {
    "count": (count, add_counts),
    "os": (os, add_counts),
    "ids": (ids, add_counts),
    "words": (words, add_counts),
    "median": (median, medians),
    "hotkey": (hotkey, sums),
    "maponly": (maponly, chain),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
