"""Look at a sample of the input: its layout, its format and its fields.

`survey` lists a sample of the files, `names` infers the layout from their paths, `contents` recognises
the format of a file, and `fields` counts the types and values of the fields of its records.
"""
