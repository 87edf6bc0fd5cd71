"""Run a job, from the arguments to a committed output, or predict what a run would do.

`pipeline` is the main line: check, list, plan, connect, map, merge, reduce, commit. `plan` and
`estimate` predict a run, and `trial` calls the script on a few records. Nothing here prints. Begin
with `pipeline`.
"""
