"""From a layout and a filter to files, from files to records, from parts to one output.

Listing prunes by the filter (`layout`, `filters`, `listing`, `store_listing`), `inputs` combines
local and remote files and `partition` cuts their list; `readers` turns a file into lines; `parts`
merges what was reduced, `writers` encodes it, and `output` commits it. Nothing here calls a
function of the user. A new form of filter belongs in `filters`, an input format in `readers`, an
output format in `writers`. Begin with `listing`, then `readers.lines`.
"""
