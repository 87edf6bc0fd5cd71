"""Split large files, so that several tasks read them.

`files` decides which files are cut, and where; `blocks` finds where a compressed file can be cut; and
`line_numbers` counts the lines before a part. The readers read exactly the lines of a part.
"""
