"""The work of a Dask task: map a partition, fold its pairs into Runs, merge Runs, reduce a bucket.

`map` reads `partition_files` by the `record_rule`, into a `map_output`. `fold` is the writing side of
the shuffle, `runs` the reading side, and `reduce` the end. `user_calls` calls the user's functions,
and `guard` converts their exceptions to one exception of plain strings. `tally` travels with the
results. `crashes` leaves a mark that outlives the process, and `deaths` reads it. A task accesses its
arguments and the disk, never the client. Begin with `map`.
"""
