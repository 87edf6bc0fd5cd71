"""The live page of a run, on the HTTP server of the scheduler beside Dask's dashboard.

`page` runs in the client, `server` is the scheduler's plugin that serves the page, and `content`
renders the page and its updates. Begin with `page`.
"""
