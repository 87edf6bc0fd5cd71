"""The command ``daskmr``, and ``python -m daskmr``, which handle signals from the start."""

from __future__ import annotations

from daskmr.search_path import put_working_directory_last

put_working_directory_last(by_name=__name__ == "__main__")  # before any other import

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402


def _leave(signum: int, frame: object) -> None:
    """Exit before any work was begun; later the commands install their own handlers."""
    os.write(2, b"daskmr: Interrupted; nothing was written.\n")
    # If anything was started by now, it may have left something to remove.
    clean_up = getattr(sys.modules.get("daskmr.signals"), "clean_up", None)
    if clean_up is not None:
        clean_up()
    os._exit(128 + signum)


# With these options the job runs elsewhere or inline, or perhaps not at all.
_NO_WORKERS_HERE = (
    "-h", "--help", "--inline", "--scheduler", "--cluster", "--if-changed", "--for-each-day",
)  # fmt: skip


def _will_start_workers(arguments: list[str]) -> bool:
    """Guess from the command line; a wrong guess only costs a short-lived process."""
    return arguments[:1] == ["run"] and not any(a.startswith(_NO_WORKERS_HERE) for a in arguments)


def _has_standard_streams() -> bool:
    """Check that all are open, because a new pipe could get the number of a closed one."""
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

        keep_standard_output()  # else the output of scripts in workers would go there
        prewarm()  # before all else, because it takes the longest

    from daskmr.cli.entry import main as command

    command(prog_name="daskmr")


if __name__ == "__main__":
    main()
