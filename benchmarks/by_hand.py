"""The jobs of `examples/` written by hand, to compare their time with daskmr's.

    python benchmarks/by_hand.py os_distribution sample os.txt

Each job is what one would write for it alone: two processes read one file after the other and aggregate
it in a dict, and the parent merges the dicts, sorts and writes. The output has the same bytes as that of
the example with its filter. It omits everything else: compression other than gzip, damaged files, a
report of bad records, data that outgrows the memory, atomic output.
"""

import csv
import json
import re
import sys
from collections import Counter, defaultdict
from multiprocessing import Pool
from pathlib import Path

from isal import igzip

PROCESSES = 2


def main(name, data_dir, output):
    allowed, read, finish = JOBS[name]
    root = Path(data_dir)
    paths = [path for path in root.glob("*/*/*/*/*.gz") if allowed(*dimensions(path))]
    paths.sort(key=lambda path: path.stat().st_size, reverse=True)  # largest first, so none is last
    with Pool(PROCESSES) as pool, open(output, "w", encoding="utf-8", newline="") as file:
        finish(pool.imap_unordered(read, paths), file)


def dimensions(path):
    build, day, _ = path.name.split(".", 2)
    return *path.parts[-5:-1], build, day


def read_records(path):
    with igzip.open(path) as lines:
        for line in lines:
            key, tab, value = line.rstrip(b"\r\n").partition(b"\t")
            if tab:
                yield key.decode(), value


def read_documents(path):
    for key, value in read_records(path):
        try:
            document = json.loads(value)
        except ValueError:
            continue
        yield key, document


def count_records(path):
    with igzip.open(path) as lines:
        return sum(b"\t" in line for line in lines)


def write_record_count(results, file):
    file.write(f"records\t{sum(results)}\n")


def os_distribution(path):
    return Counter(doc.get("info", {}).get("OS", "unknown") for _, doc in read_documents(path))


def write_os_distribution(results, file):
    for system, count in sorted(sum_counters(results).items()):
        file.write(f"{system}\t{count}\n")


def sum_counters(results):
    total = Counter()
    for counter in results:
        total.update(counter)
    return total


def duplicate_submissions(path):
    return dimensions(path)[5], [key for key, _ in read_records(path)]


def write_duplicate_submissions(results, file):
    days = defaultdict(list)
    for day, keys in results:
        for key in keys:
            days[key].append(day)
    for key in sorted(key for key, found in days.items() if len(found) > 1):
        file.write(f"{key}\t{len(days[key])}\t{len(set(days[key]))}\n")


PROBE = "GC_MS"


def histogram_per_channel(path):
    totals = {}
    for _, document in read_documents(path):
        histogram = document.get("histograms", {}).get(PROBE)
        if histogram:
            add_row(totals, (dimensions(path)[2], len(histogram)), [1, *histogram[:-4]])
    return totals


def add_row(totals, key, row):
    total = totals.setdefault(key, [0] * len(row))
    for index, number in enumerate(row):
        total[index] += number


def add_results(results):
    totals = {}
    for result in results:
        for key, row in result.items():
            add_row(totals, key, row)
    return sorted(totals.items())


def write_histogram_per_channel(results, file):
    for (channel, _), (documents, *counts, total) in add_results(results):
        row = {"documents": documents, "sum": total, "counts": counts}
        file.write(f"{channel}\t{json.dumps(row)}\n")


def slow_queries(path):
    durations = defaultdict(list)
    for _, document in read_documents(path):
        statements = document.get("slowSQL", {}).get("mainThread", {})
        for statement, (calls, milliseconds) in statements.items():
            if calls:
                durations[statement].append(milliseconds / calls)
    return durations


def write_slow_queries(results, file):
    durations = defaultdict(list)
    for result in results:
        for statement, found in result.items():
            durations[statement] += found
    for statement, found in sorted(durations.items()):
        found.sort()
        file.write(f"{statement}\t{len(found)}\t{found[len(found) // 2]:.1f}\n")


FIELDS = ("OS", "version", "arch", "cpucount", "memsize", "locale", "adapterDescription")
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def extract_tsv(path):
    day = dimensions(path)[5]
    lines = []
    for key, document in read_documents(path):
        info = document.get("info", {})
        row = [key, day, *(str(info.get(field, "")) for field in FIELDS)]
        lines.append("\t".join([field.translate(ESCAPES) for field in row]) + "\n")
    return str(path), "".join(lines)


def write_extract_tsv(results, file):
    for _, text in sorted(results):
        file.write(text)


MILESTONES = ("main", "firstPaint", "sessionRestored")


def startup_csv(path):
    version = dimensions(path)[3]
    totals = {}
    for _, document in read_documents(path):
        measured = document.get("simpleMeasurements", {})
        times = [measured.get(milestone) for milestone in MILESTONES]
        if None not in times:
            system = document.get("info", {}).get("OS", "unknown")
            add_row(totals, (version, system), [1, *times])
    return totals


def write_startup_csv(results, file):
    writer = csv.writer(file)
    writer.writerow(["version", "os", "documents", *MILESTONES])
    for key, (documents, *totals) in add_results(results):
        writer.writerow([*key, documents, *(round(total / documents) for total in totals)])


def documents_per_day(path):
    _, _, channel, _, _, day = dimensions(path)
    return Counter({(day, channel): count_records(path)})


def write_documents_per_day(results, file):
    for (day, channel), count in sorted(sum_counters(results).items()):
        file.write(f"{day};{channel};{count}\n")


def everything(reason, app, channel, version, build, day):
    return True


def saved_session(reason, app, channel, version, build, day):
    return reason == "saved_session"


def desktop(reason, app, channel, version, build, day):
    return app in ("Firefox", "Thunderbird")


def nightly(reason, app, channel, version, build, day):
    return (reason, app, channel) == ("saved_session", "Firefox", "nightly")


def prerelease(reason, app, channel, version, build, day):
    return channel in ("nightly", "aurora", "beta") and day >= "20131101"


def release_2013_11(reason, app, channel, version, build, day):
    return (
        reason in ("saved_session", "idle_daily")
        and (app, channel) == ("Firefox", "release")
        and re.fullmatch(r"2[0-9]\..*", version)
        and "20131101" <= day <= "20131130"
    )


JOBS = {
    "record_count": (everything, count_records, write_record_count),
    "os_distribution": (saved_session, os_distribution, write_os_distribution),
    "duplicate_submissions": (everything, duplicate_submissions, write_duplicate_submissions),
    "histogram_per_channel": (saved_session, histogram_per_channel, write_histogram_per_channel),
    "slow_queries": (desktop, slow_queries, write_slow_queries),
    "extract_tsv": (nightly, extract_tsv, write_extract_tsv),
    "startup_csv": (release_2013_11, startup_csv, write_startup_csv),
    "documents_per_day": (prerelease, documents_per_day, write_documents_per_day),
}


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in JOBS:
        sys.exit(f"usage: python by_hand.py NAME DATA_DIR OUTPUT; NAME is one of {', '.join(JOBS)}")
    main(*sys.argv[1:])
