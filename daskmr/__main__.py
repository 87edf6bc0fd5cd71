"""``python -m daskmr`` is the command ``daskmr``."""

from daskmr.cli import main

if __name__ == "__main__":
    main(prog_name="daskmr")
