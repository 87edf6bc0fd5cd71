"""Verified local copies of remote files, shared by all runs and processes of a machine.

A file appears in the cache complete or not at all, and one process fetches it for all that need
it (`cache`, `staging`); SQLite tables record the files and what was listed (`manifest` and
`listing_record`, on `database`). `prefetch` fetches ahead, in a process beside each worker
(`fetcher`); `upkeep` verifies and prunes. Begin with `cache`.
"""
