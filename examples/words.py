"""How often does each word occur in a folder of text files?

    daskmr run examples/words.py -d texts -o words.tsv

Each row has a word in lower case, and how often it occurs.

The folder may hold files at any depth, plain or compressed. The two names below are the same as
``--layout flat --records lines`` on the command line: the path of a file says nothing, so ``dims`` is
empty, and the value is a line, whose key is the path of its file.
"""

import re
from collections import Counter

from daskmr.reducers import total

layout = "flat"
records = "lines"
columns = ("word", "count")  # of the output

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def map(key, dims, value, context):
    for word, count in Counter(WORD.findall(value.lower())).items():
        context.write(word, count)


reduce = total
combine = total.combine
