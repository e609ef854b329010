"""What a request can be doing when its deadline passes, for a host that interrupts it.

EVENTS_FILE gets a line for each thing that happened; a request is held while HOLD_FILE exists.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import guado

EVENTS = os.environ["EVENTS_FILE"]
HOLD = os.environ["HOLD_FILE"]


def say(event: str) -> None:
    """Writes one line at once."""
    with open(EVENTS, "a") as events:
        events.write(f"{event}\n")


if os.path.exists(HOLD + ".boot"):
    say("boots")
    while os.path.exists(HOLD + ".boot"):
        time.sleep(0.005)


def sleep() -> None:
    time.sleep(600)


def loop() -> None:
    while True:
        pass


def gil() -> None:
    """Waits in C without giving up the GIL, as a long computation would."""
    while True:
        ctypes.PyDLL(None).poll(None, 0, 60000)


WORK = {f"/{f.__name__}": f for f in (sleep, loop, gil)}


def held() -> bytes:
    """Goes on for as long as the test wants, giving up the GIL."""
    say("held")
    while os.path.exists(HOLD):
        time.sleep(0.005)
    return str(os.getpid()).encode()


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """/held starts its answer at once: its deadline is no more."""
    path = environ["PATH_INFO"]
    if path == "/held":
        start("200 OK", [])(b"held by ")
        return [held()]
    if path in WORK:
        try:
            WORK[path]()
        except guado.RequestTimeout:
            say("RequestTimeout")
            raise
    start("200 OK", [])
    return [str(os.getpid()).encode()]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """/wait awaits; the others block the loop."""
    if scope["type"] == "lifespan":
        return
    path = scope["path"]
    try:
        if path == "/wait":
            await asyncio.sleep(600)
        elif path in WORK:
            WORK[path]()
    except BaseException as error:
        say(type(error).__name__)
        raise
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
