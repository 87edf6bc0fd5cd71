"""Generate sample data. Each kind is a module that defines `KIND`, and `files` writes its files.

All of it is generated from random integers, so a seed gives the same data on every machine.
"""

KINDS = ("documents", "logs", "events", "rides")
"""The modules with a kind of sample data; the first one is the default."""
