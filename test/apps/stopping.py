"""Applications that still work when their host stops; each says in a file what it got to.

While HOLD_FILE exists, /behind works behind its answer, and every other path before it, but
for /executor, which leaves a thread of the loop's executor that never ends.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

EVENTS = os.environ["EVENTS_FILE"]
HOLD = os.environ["HOLD_FILE"]
never = threading.Event()


def say(event: str) -> None:
    """Writes one line at once."""
    with open(EVENTS, "a") as events:
        events.write(f"{event}\n")


atexit.register(say, "atexit")


class Behind:
    """An answer whose close() takes its time."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"answer"])

    def close(self) -> None:
        say("working")
        while os.path.exists(HOLD):
            never.wait(0.005)
        say("done")


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """/behind and the rest."""
    start("200 OK", [("Content-Length", "6")])
    if environ["PATH_INFO"] == "/behind":
        return Behind()
    Behind().close()
    return [b"answer"]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """/behind and the rest, which does not care for its cancellation."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(float(os.environ.get("LIFESPAN_SECONDS", "0.5")))
        say("lifespan")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/executor":
        asyncio.get_running_loop().run_in_executor(None, never.wait)
    elif scope["path"] != "/behind":
        say("working")
        while os.path.exists(HOLD):
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                say("cancelled")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"answer"})
    if scope["path"] == "/behind":
        say("working")
        while os.path.exists(HOLD):
            await asyncio.sleep(0.005)
        say("done")
