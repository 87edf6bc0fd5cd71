"""Parameters of scripts, and environment variables that are passed to them."""
