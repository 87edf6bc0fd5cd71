"""One run, from arguments to a committed output; and what can be known before it.

`pipeline` tells the story: check, list, plan, connect, map, merge, reduce, commit. Before a run,
`plan` and `estimate` say what it would do, and `trial` tries the script on a few records. Nothing here
prints. Begin with `pipeline`.
"""
