"""Show a run to the user: a display or a log, a summary, a report, a live page.

`collector` follows a run and keeps its `History`, from which everything else is drawn. Nothing here
changes what a run does or writes. HTML is in `templates`; pictures are in `pictures`, built with
`plotting`. Begin with `collector`.
"""
