"""From the bytes of an input file to its records: one module for each input format.

`decompression` opens a file and yields its data, whatever codec it is compressed with; `lines`
splits that data and decodes it; `sniffing` recognises what a file holds and `faults` words the
errors about it. Nothing here knows the layout or the job. A new input format is a new module that
reads the chunks of `decompression`. Begin with `lines`.
"""
