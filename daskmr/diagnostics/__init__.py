"""What a person sees of a run: lines at a terminal, a log, a summary, a report, a live page.

`collector` reads what tasks say of their progress and keeps a `History`; everything else draws
that. It listens and never steers: a run gives the same output without it. Begin with `collector`.
"""
