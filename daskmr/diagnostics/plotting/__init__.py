"""What pictures are made of: `base` (what a picture is), `curves`, Bokeh figures, and shared kinds of plot.

Nothing here knows a single picture; those are in `daskmr.diagnostics.pictures`. Begin with `base`.
"""
