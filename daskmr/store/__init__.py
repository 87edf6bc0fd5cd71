"""List, fetch, verify and write objects in S3 or any other fsspec store.

A `Source` is the location of data, without secrets; a `Store` lists, fetches and writes objects,
with its own S3 requests (`s3`) or a file system of fsspec (`fsspec_store`). It does not use
``s3fs.get``, which in tests left holes in files and mixed versions of an overwritten object: here,
a GET is bound to the listed ETag, resumed by range, and verified by length and checksum. No module
here depends on layouts, caches or jobs. Start with `store`.
"""
