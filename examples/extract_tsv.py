r"""What does the hardware of nightly users look like? A table for other tools to read.

    daskmr run examples/extract_tsv.py -d sample -f examples/filters/nightly.json -o hardware.tsv

A line a document, in the order of the input: id, day of submission, then the fields below. Without
``reduce``, what ``map`` writes is the output. Tabs, newlines and backslashes inside of a field are
written as ``\t``, ``\n``, ``\r`` and ``\\``, so that a line is always one document; a field that is
missing is empty.
"""

import json

FIELDS = ("OS", "version", "arch", "cpucount", "memsize", "locale", "adapterDescription")

ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def map(key, dims, value, context):
    info = json.loads(value).get("info", {})
    row = [key, dims[5], *(str(info.get(field, "")) for field in FIELDS)]
    context.writeline("\t".join([field.translate(ESCAPES) for field in row]))
