"""The findings of ``daskmr inspect``, and the script that it writes.

`findings` puts together the layout, the format, the dimensions and the fields of the input; `starter`
writes a script for them.
"""
