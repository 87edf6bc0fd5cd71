"""How many words of a folder of texts occur once, how many twice, and so on?

    daskmr run examples/word_frequencies.py -d texts -o frequencies.tsv

Each row has a number of times, how many words occur that often, and the longest of them.

The answer takes two steps. The first one counts each word. The second one gets its pairs, a word and its
count, as Python objects: it exchanges them, so that the count is the key.
"""

import re

from daskmr import Job

layout = "flat"
records = "lines"
output_columns = ("times", "words", "longest")

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def each_word(key, dims, value, context):
    context.write_each(WORD.findall(value.lower()), 1)


def total(key, values, context):
    context.write(key, sum(values))


def by_count(word, dims, count, context):
    context.write(count, (1, word))


def number_and_longest(key, values, context):
    number = sum(number for number, _ in values)
    longest = max((word for _, word in values), key=lambda word: (len(word), word))
    context.write(key, (number, longest))


steps = [
    Job(map=each_word, combine=total, reduce=total),
    Job(map=by_count, combine=number_and_longest, reduce=number_and_longest),
]
