"""The dimensions of the input: templates of paths, typed values, and ``--where``."""
