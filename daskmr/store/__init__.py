"""Objects in S3 or any fsspec store: list them, fetch them verified, write them.

A `Source` names where data is without a secret; a `Store` lists, fetches and writes, through its
own S3 requests (`s3`) or a file system of fsspec (`fsspec_store`). S3 requests are made here and
not by ``s3fs.get``, which was measured to leave files with holes and to mix versions of an object
that is overwritten: here a GET is bound to the listed ETag, resumed by range and verified by
length and checksum. Nothing here knows of layouts, caches or jobs. Begin with `store`.
"""
