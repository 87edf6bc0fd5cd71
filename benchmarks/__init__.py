"""Compare the time of daskmr with other ways to do the same job: ``python -m benchmarks --help``."""
