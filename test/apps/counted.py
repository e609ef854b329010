"""Counts each call in a file, and holds its threads while another file exists.

What a killed worker had begun can so be told from what it had not.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

COUNT = os.environ.get("COUNT_FILE", "")
HOLD = os.environ.get("HOLD_FILE", "")
never = threading.Event()


def count(environ: dict[str, Any]) -> None:
    """Writes one line at once, whole also beside other threads and processes."""
    if COUNT:
        fd = os.open(COUNT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{environ['PATH_INFO']} {os.getpid()}\n".encode())
        os.close(fd)


def hold(stubborn: bool) -> None:
    """Until the files are gone; a stubborn one does not heed its interrupt either."""
    while True:
        try:
            while HOLD and (os.path.exists(HOLD) or os.path.exists(f"{HOLD}.{os.getpid()}")):
                never.wait(0.005)
            return
        except BaseException as error:
            if not stubborn or type(error).__name__ != "RequestTimeout":
                raise


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """/pid, /free, /sleep (10 ms); everything else echoes its body and is held.

    It is held as long as HOLD_FILE, or one for this process (HOLD_FILE.PID), is there.
    """
    body = environ["wsgi.input"].read()
    match environ["PATH_INFO"]:
        case "/pid" | "/free":
            body = f"{os.getpid()} {environ['wsgi.multiprocess']}".encode()
        case "/sleep":
            time.sleep(0.01)
        case _:
            count(environ)
            hold(environ["PATH_INFO"] == "/stubborn")
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def raises(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Raises before it answers."""
    raise ValueError("trouble")


async def raises_async(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Raises before it answers."""
    raise ValueError("trouble")
