"""Objects in S3 or any fsspec store: list them, fetch them verified, write them.

A source names where data is without a secret (`source`); a store lists, fetches and writes
(`store`), through requests of its own for S3 (`s3`) or through a file system of fsspec
(`fsspec_store`). Downloads are verified by length and checksum and resumed by range, which
``s3fs.get`` does not do: it leaves files with holes and mixes versions of an object that is
overwritten. Nothing here knows of layouts, caches or jobs. Begin with `store`.
"""
