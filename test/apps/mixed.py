"""What the soak test with faults asks. Each call, and each task of an executor, notes its
number and process before it does anything, so that the test knows what had begun."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

import guado

if os.environ.get("MIXED") == "broken":
    raise RuntimeError("told to break")

LEDGER = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(number: str) -> None:
    """One write, which nothing of another process comes between."""
    os.write(LEDGER, f"{number} {os.getpid()}\n".encode())


def task(number: str, size: int, nap: float) -> bytes:
    """Runs in a process of the executor."""
    note(number + ".task")
    time.sleep(nap)
    return b"t" * size


def died(error: guado.ExecutorError) -> bytes:
    """The one failure that a task may have here."""
    if error.code != "worker_died":
        raise error
    return b"its process died"


def big(size: int) -> Iterator[bytes]:
    """size bytes in pieces of 64 KiB."""
    piece = b"x" * 65536
    while size > 0:
        yield piece[: min(size, len(piece))]
        size -= len(piece)


def spin(seconds: float) -> bytes:
    """Computes, as Python does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return b"spun"


def shout(lines: int) -> bytes:
    """Prints more than a worker may."""
    for number in range(lines):
        print("shouted", number, file=sys.stderr)
    return b"shouted"


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """/echo, /big?n=, /task?n=&ms=, /nap?ms=, /spin?s=, /shout?n=; all with id=."""
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    note(query["id"])
    nap = float(query.get("ms", 0)) / 1000
    start("200 OK", [("Content-Type", "text/plain")])
    match environ["PATH_INFO"]:
        case "/big":
            return big(int(query["n"]))
        case "/spin":
            return [spin(float(query["s"]))]
        case "/shout":
            return [shout(int(query["n"]))]
        case "/task":
            try:
                return [
                    guado.executor("cpu").submit(task, query["id"], int(query["n"]), nap).result()
                ]
            except guado.ExecutorError as error:
                return [died(error)]
        case "/nap":
            time.sleep(nap)
            return [b"rested"]
    return [environ["wsgi.input"].read() or b"hello"]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """/echo, /task?n=&ms= and /nap?ms=, with id=."""
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    note(query["id"])
    nap = float(query.get("ms", 0)) / 1000
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"].endswith("/task"):
        try:
            body = await guado.executor("cpu").submit(task, query["id"], int(query["n"]), nap)
        except guado.ExecutorError as error:
            body = died(error)
    elif scope["path"].endswith("/nap"):
        await asyncio.sleep(nap)
        body = b"rested"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body or b"hello"})
