"""From what a reducer wrote to the bytes of the output: one module for each output format.

`text` encodes the text that reducers write, `compression` wraps the output by the suffix of its
name. Nothing here knows where the output goes; `output` does. A new output format is a new module.
"""
