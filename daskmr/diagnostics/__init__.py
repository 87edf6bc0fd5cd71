"""What a person sees of a run: a display or a log, a summary, a report, a live page.

`collector` follows a run and keeps its `History`; everything else is drawn from that, and nothing
here changes what a run does: its output is the same without. HTML is in `templates`, pictures are in
`pictures` and made of `plotting`. Begin with `collector`.
"""
