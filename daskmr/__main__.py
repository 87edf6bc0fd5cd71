"""The command ``daskmr``, and ``python -m daskmr``: quick to answer a signal from the start."""

from __future__ import annotations

from daskmr.search_path import put_working_directory_last

put_working_directory_last(by_name=__name__ == "__main__")  # before any other import

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402


def _leave(signum: int, frame: object) -> None:
    """End while nothing was begun yet; later the commands have handlers of their own."""
    os.write(2, b"daskmr: Interrupted; nothing was written.\n")
    # What has been started by now, if anything has, left something to remove.
    clean_up = getattr(sys.modules.get("daskmr.signals"), "clean_up", None)
    if clean_up is not None:
        clean_up()
    os._exit(128 + signum)


# With these a job may run elsewhere, or nothing at all.
_NO_WORKERS_HERE = ("-h", "--help", "--inline", "--scheduler", "--cluster")


def _will_start_workers(arguments: list[str]) -> bool:
    """Guess from the command line; a wrong guess costs no more than a process that soon ends."""
    return arguments[:1] == ["run"] and not any(a.startswith(_NO_WORKERS_HERE) for a in arguments)


def _has_standard_streams() -> bool:
    """Check that all are open: a pipe to another process could take the number of a closed one."""
    try:
        return bool([os.fstat(number) for number in (0, 1, 2)])
    except OSError:
        return False


def main() -> None:
    """Run the command line."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _leave)
    if _will_start_workers(sys.argv[1:]) and _has_standard_streams():
        from daskmr.cluster.forkserver import prewarm
        from daskmr.stdio import keep_standard_output

        keep_standard_output()  # or what a script prints in its workers would go there
        prewarm()  # before all else, as it takes the longest

    from daskmr.cli.entry import main as command

    command(prog_name="daskmr")


if __name__ == "__main__":
    main()
