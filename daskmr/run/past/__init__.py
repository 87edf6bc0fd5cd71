"""How runs ended: the history of a work dir, and the summary of one run as a file.

`outcome` describes the end of a run, `keeping` adds it to the history, `entries` reads that without
importing Dask, and `summary_file` is ``--summary-json``. Begin with `outcome`.
"""
