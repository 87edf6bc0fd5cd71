"""The live page of a run, on the HTTP server of the scheduler beside Dask's dashboard.

`page` computes in the client, `server` is the plugin of the scheduler that hands it out, and
`content` is the HTML and what is new. Begin with `page`.
"""
