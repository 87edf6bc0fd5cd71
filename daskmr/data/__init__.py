"""Find and read the input of a job, and write its output.

`listing` and `store_listing` list the files that the `layout` and `filters` select, `inputs` merges
local and remote files, and `partition` splits their list; `readers` turns a file into lines; `parts`
merges reduced results, `writers` encodes them, and `output` commits them. No module here calls user
code. A new form of filter belongs in `filters`, an input format in `readers`, an output format in
`writers`. Start with `listing`, then `readers.lines`.
"""
