"""How many records are there?

    daskmr run examples/record_count.py -d sample -f examples/filters/all.json -o records.txt

The smallest possible job. Its output is one line: ``records``, a tab, and the number. The values are not
parsed, so a document of broken JSON counts; a line without a tab is a bad record and does not.
"""


def map(key, dims, value, context):
    context.write("records", 1)


def reduce(key, values, context):
    context.write(key, sum(values))


combine = reduce  # partial counts add up to the count
