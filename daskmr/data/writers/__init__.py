"""Encode the results of reducers as bytes: one module for each output format.

`text` encodes the text that reducers write; `compression` compresses it in the format that the
suffix of the output names. `output` decides where the bytes go. Add a new format as a new module.
"""
