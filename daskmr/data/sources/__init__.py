"""The sources of the input: the values of ``--data-dir``, and the files that they name.

`given` checks the values, `named_files` lists what they name, and `globs` expands globs. `own_files`
recognises what daskmr wrote itself.
"""
