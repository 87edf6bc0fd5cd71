"""Sample data: `files` writes it, from `documents` that are made of random numbers."""
