"""The command ``daskmr``, and ``python -m daskmr``: quick to answer a signal from the start."""

from __future__ import annotations

import os
import signal


def _leave(signum: int, frame: object) -> None:
    """End while nothing was begun yet; later the commands have handlers of their own."""
    os.write(2, b"daskmr: Interrupted; nothing was written.\n")
    os._exit(128 + signum)


def main() -> None:
    """Run the command line."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _leave)
    from daskmr.cli import main as command

    command(prog_name="daskmr")


if __name__ == "__main__":
    main()
