"""Generate sample data: `documents` are generated from random numbers, and `files` writes them."""
