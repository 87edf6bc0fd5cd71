"""The map and reduce of each workload, the same for all frameworks."""

import json


def count(line):
    return "records", 1


def os(line):
    return json.loads(line.partition("\t")[2])["info"]["OS"], 1


def ids(line):
    return line.partition("\t")[0], 1


def words(line):
    """Return many pairs; all others return one."""
    return [(word, 1) for word in line.partition("\t")[2].split()]


def median(line):
    key, _, value = line.rstrip("\n").partition("\t")
    return key, value


def hotkey(line):
    key, value = median(line)
    return "hot" if int(value[:9]) % 5 else key, value


def maponly(line):
    key, _, value = line.partition("\t")
    info = json.loads(value)["info"]
    return key, info["OS"] + " " + info["appVersion"]


def middle(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2][:9]


def total(values):
    return sum(int(value[:9]) for value in values)


def text(pair):
    return f"{pair[0]}\t{pair[1]}"


PAIRS = {
    "count": count,
    "os": os,
    "ids": ids,
    "words": words,
    "median": median,
    "hotkey": hotkey,
    "maponly": maponly,
}
GROUPED = {"median": middle, "hotkey": total}  # all values of a key at once
