"""Run the command in a fork of a process that has imported it, which takes half of the time.

As a script, this is that process: for each connection to its socket it starts one command, whose exit
status it sends back. It has a single thread, and nothing of the tests.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, NoReturn

_AT_IMPORT = ("PYTHON", "DASK", "LC_", "LANG", "MALLOC", "LD_")
"""Beginnings of the names of variables that count while a process starts."""


def may_run(env: Mapping[str, str]) -> bool:
    """Check that a command with these variables would start as the preloaded process did."""
    return _at_import(env) == _at_import_here()


def _at_import(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_IMPORT)}


@cache
def _at_import_here() -> dict[str, str]:
    _address()
    return _at_import(os.environ)


@cache
def _address() -> str:
    """Start the process, which ends with this one, and return the path of its socket."""
    folder = tempfile.mkdtemp(prefix="daskmr-")
    path = os.path.join(folder, "socket")
    process = subprocess.Popen(
        [sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        process.kill()
        process.wait()
        with suppress(OSError):
            os.unlink(path)
            os.rmdir(folder)

    atexit.register(end)
    return path


def run(
    arguments: Sequence[str],
    cwd: Path | None,
    env: Mapping[str, str],
    timeout: float,
    data: bytes | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command, like `subprocess.run` with its output captured as text.

    Its standard input is a pipe with `data`, which must fit into one, or nothing if that is None.
    """
    command = {"arguments": [*arguments], "cwd": os.fspath(cwd or os.getcwd()), "env": dict(env)}
    message = json.dumps(command).encode("ascii")
    pipes = [os.pipe(), os.pipe()]
    given = _pipe_with(data)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(_address())
        writing = array.array("i", [given, *(write for _, write in pipes)])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, writing)]
        connection.sendmsg([len(message).to_bytes(4, "big")], rights)
        connection.sendall(message)
        for descriptor in writing:
            os.close(descriptor)
        pid = int.from_bytes(_receive(connection, 4), "big")
        try:
            out, err = _read_all([read for read, _ in pipes], time.monotonic() + timeout)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(["daskmr", *arguments], timeout) from None
        finally:
            for read, _ in pipes:
                os.close(read)
        status = int.from_bytes(_receive(connection, 4), "big", signed=True)
    texts = [data.decode("utf-8", "surrogateescape").replace("\r\n", "\n") for data in (out, err)]
    return subprocess.CompletedProcess([*arguments], status, *texts)


def _pipe_with(data: bytes | None) -> int:
    """Return a descriptor to read `data` from."""
    if data is None:
        return os.open(os.devnull, os.O_RDONLY)
    read, write = os.pipe()
    os.set_blocking(write, False)
    assert os.write(write, data) == len(data)
    os.close(write)
    return read


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, "the preloaded process has ended"
        data += piece
    return data


def _read_all(pipes: list[int], until: float) -> list[bytes]:
    """Read to the end of all pipes; raise TimeoutError if that takes too long."""
    found = {pipe: bytearray() for pipe in pipes}
    with DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, until - time.monotonic()))
            if not ready and time.monotonic() >= until:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                found[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
    return [bytes(found[pipe]) for pipe in pipes]


# --- the preloaded process ------------------------------------------------------------------------


def serve(path: str) -> NoReturn:
    """Wait for connections until the process that started this one has ended."""
    import daskmr.cli.entry
    import daskmr.cli.run
    import daskmr.run.mapreduce
    import daskmr.run.pipeline  # noqa: F401

    assert "distributed" not in sys.modules  # which reads its configuration at import
    assert threading.active_count() == 1
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that children need not be waited for
    with socket.socket(socket.AF_UNIX) as server, DefaultSelector() as selector:
        server.bind(path)
        server.listen()
        os.write(1, b"ready\n")
        selector.register(server, EVENT_READ)
        selector.register(0, EVENT_READ)  # which is closed when that process ends
        while True:
            for key, _ in selector.select():
                if key.fd == 0:
                    os._exit(0)
                connection, _ = server.accept()
                if not os.fork():
                    server.close()
                    _supervise(connection)
                connection.close()


def _supervise(connection: socket.socket) -> NoReturn:
    """Start the command of a connection, and send its process id and its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, rights, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(12))
    descriptors = array.array("i")
    descriptors.frombytes(rights[0][2])
    command = json.loads(_receive(connection, int.from_bytes(head, "big")))
    pid = os.fork()
    if not pid:
        connection.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        _become(command)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(pid.to_bytes(4, "big"))
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):  # the test has given up
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


def _become(command: dict[str, Any]) -> NoReturn:
    """Go on as ``python -m daskmr`` would with the same imports."""
    import runpy

    import dask.config

    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["env"])
    time.tzset()
    dask.config.refresh()
    sys.path[0] = os.getcwd()
    sys.argv = ["daskmr", *command["arguments"]]
    status: Any = 0
    try:
        runpy.run_module("daskmr", run_name="__main__", alter_sys=True)
    except SystemExit as exit_:
        status = exit_.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(int(status or 0) & 0xFF)


if __name__ == "__main__":
    serve(sys.argv[1])
