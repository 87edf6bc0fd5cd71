"""Files that a run sends with its script: `daskmr.file` returns where a process finds them."""
