"""Layouts, filters and trees of files, fixed and for property tests."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st

from daskmr.data.layout import load_schema

NAME = "20131029030201.20131102.v2.log.4f2e.gz"


LAST = "idle/Firefox/beta/24.0/"


DIMS = ("idle", "Firefox", "beta", "24.0")


def allow(*values):
    """A schema whose first dimensions allow `values`."""
    dimensions = [{"field_name": f"f{n}", "allowed_values": v} for n, v in enumerate(values)]
    return load_schema({"dimensions": dimensions})


def layout(folder, count, values):
    """A schema of a layout with `count` dimensions."""
    path = Path(folder, "layout.json")
    path.write_text(json.dumps({"dimensions": [{"field_name": f"d{n}"} for n in range(count)]}))
    dimensions = [{"field_name": f"d{n}", "allowed_values": v} for n, v in enumerate(values)]
    return load_schema({"dimensions": dimensions}, path)


names = st.sampled_from(["a", "b", "a-b", "a_b", ".h", "c.d", "e\xe9"])


file_names = st.sampled_from(
    ["1.1.gz", "1.2.gz", "2.1.x.txt", "3.1.gz", "a-b.1.gz", "a_b.2.GZ", "1.gz", "1.1.md", "x"]
)


trees = st.dictionaries(
    st.tuples(st.lists(names, max_size=3), file_names).map(lambda t: "/".join([*t[0], t[1]])),
    st.integers(0, 9),
    max_size=25,
)


allowed_values = st.one_of(
    st.just("*"),
    st.sampled_from(["a", "a-b", "1", "zz"]),
    st.lists(st.sampled_from(["a", "b", "a-b", "1", "2"]), min_size=1, max_size=3),
    st.sampled_from([{"min": "a_"}, {"max": "a-c"}, {"min": 1, "max": "b"}, {"min": 1, "max": 12}]),
    st.just({"regex": "[ab12]"}),
)


filters = st.lists(allowed_values, max_size=4)


def told(listing):
    return [(file.path, file.size, file.dims) for file in listing.files]


def numbered(count, *firsts, below=LAST):
    return [f"{below}{first}.20131102.{n:03}.gz" for first in firsts for n in range(count)]


LAYOUTS = [
    ("{a}/{b:int}/{c}.log", ("a=x,y", "b=1..3")),
    ("{a}/{b:int}/{c}.log", ("c=u",)),
    ("logs/{a}/{b}.log", ("b=!u",)),
    ("logs/{a}-{b:int}/app.log", ("b=1..",)),
    ("logs/v{a:int}/{rest...}", ("a=1",)),
    ("{a}/log-{rest...}", ()),
    ("{a}/{_}/{b}.{_}", ("b=u",)),
    ("{a}-{b}.log", ("a=x", "b=1")),
    ("flat", ()),
    ("hive", ("dt=2024..",)),
    ("hive", ("hour=7",)),
    ("dt={dt:date}/hour={hour:int}/{_}", ("dt=20240102", "hour=7..8")),
]
"""Layouts of all kinds, with filters of them."""

_parts = st.sampled_from(
    ["x", "y", "1", "3", "logs", "v1", "x-1", "log-u", "u.log", "app.log", "x.txt", "x-1.log", ".h"]
)
_days = st.sampled_from(["dt=2024-01-01", "dt=2024-01-02", "dt=2023-01-02", "dt=20240102"])
_partitions = st.tuples(_days, st.sampled_from(["hour=7", "hour=07", "hour=12"])).map("/".join)
_files = st.sampled_from(["u.log", "app.log", "x.txt", "log-u.gz", "w.md", "x-1.log"])
any_trees = st.one_of(
    st.dictionaries(
        st.tuples(st.lists(_parts, max_size=3), _files).map(lambda t: "/".join([*t[0], t[1]])),
        st.integers(0, 9),
        max_size=25,
    ),
    st.dictionaries(st.tuples(_partitions, _files).map("/".join), st.integers(0, 9), max_size=25),
)
