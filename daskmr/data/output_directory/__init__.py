"""An output that is a directory of sorted parts, which the workers write.

`slices` divides the output among the parts; `local` and `remote` collect them, and put the directory
in place as a whole. `names` knows the files of such a directory.
"""
