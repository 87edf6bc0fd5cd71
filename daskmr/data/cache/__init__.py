"""Verified local copies of remote files, shared by all runs and processes of a machine.

A file appears in the cache complete or not at all, and one process fetches it for all that need
it (`cache`, `staging`); tables beside it record what it holds and what was listed (`manifest`,
`listing_record`, on `database`). Fetching ahead is `prefetch`, in a process beside each worker
`fetcher`; `upkeep` verifies and prunes. Begin with `cache`.
"""
