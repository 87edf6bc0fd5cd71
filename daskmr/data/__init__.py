"""From a layout and a filter to files, from files to records, from parts to one output.

Listing prunes by the filter (`layout`, `listing`, `store_listing`), `partition` cuts the list into
partitions, `inputs` combines local and remote data, `records` reads a file line by line, and
`output` merges sorted parts and commits them. Nothing here calls a function of the user. Begin
with `listing`, then `records`.
"""
