"""What one Dask task does: map a partition, fold its pairs into Runs, merge Runs, reduce a bucket.

`map`, `runs` and `reduce` are the work itself; `user_calls` calls the user's functions; `guard`
turns what they raise into one exception of plain strings; `counts` travels with the results;
`crashes` leaves a mark that outlives the process. A task sees its arguments and the disk, never
the client. Begin with `map`.
"""
