"""Read records from the bytes of an input file: one module for each input format.

`decompression` opens a file and decompresses its data; `lines` splits the data into lines and
decodes them; `sniffing` recognises the format of a file, and `faults` creates the errors about it.
No module here depends on the layout or the job. Add a new input format as a new module that reads
the chunks from `decompression`. Start with `lines`.
"""
