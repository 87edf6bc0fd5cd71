"""Verified local copies of remote files, shared by all runs and processes of a machine.

A file appears in the cache complete or not at all, and only one process at a time fetches it
(`cache`, `staging`); SQLite tables record the files and the listings (`manifest` and
`listing_record`, based on `database`). `prefetch` fetches ahead, in a separate process for each
worker (`fetcher`); `upkeep` verifies and prunes. Start with `cache`.
"""
