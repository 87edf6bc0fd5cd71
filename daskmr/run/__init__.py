"""Run a job, from the arguments to a committed output, or predict what a run would do.

`mapreduce` checks its arguments in `request`, and `pipeline` is the main line: list, plan, connect,
map, merge, reduce, commit. `outputs` has what becomes of the result. `plan` and
`estimate` predict a run, and `trial` calls the script on a few records. Nothing here prints. Begin
with `pipeline`.
"""
