"""Times daskmr against other ways to do the same job: ``python -m benchmarks --help``."""
