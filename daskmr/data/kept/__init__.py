"""Results of partitions that are kept for later runs (``--reuse``).

`names` gives each a name, of everything that it depends on; `entry` writes and reads one as a file.
"""
