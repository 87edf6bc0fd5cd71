"""Each workload written with dask.bag.

python on_dask_bag.py WORKLOAD DATA_DIR OUTPUT [MEMORY_LIMIT]
"""

import operator
import sys

import dask.bag as db
from distributed import Client, LocalCluster
from pairs import GROUPED, PAIRS, text


def main(workload, data_dir, output, memory_limit="auto"):
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=memory_limit, dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        pairs = db.read_text(f"{data_dir}/*/*/*/*/*.gz").map(PAIRS[workload])
        if workload == "maponly":
            pairs.map(text).to_textfiles(f"{output}/*.txt")
            return
        if workload == "words":
            pairs = pairs.flatten()
        rows = sorted(group(pairs, workload).compute())
    with open(output, "w", encoding="utf-8") as file:
        file.writelines(f"{text(row)}\n" for row in rows)


def group(pairs, workload):
    if workload in GROUPED:
        return pairs.groupby(first).map(finish, GROUPED[workload])
    return pairs.foldby(first, add_pair, 0, operator.add, 0)


def first(pair):
    return pair[0]


def add_pair(total, pair):
    return total + pair[1]


def finish(group, reduce):
    key, pairs = group
    return key, reduce([value for _, value in pairs])


if __name__ == "__main__":
    main(*sys.argv[1:])
