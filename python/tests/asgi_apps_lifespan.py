"""Applications of the ASGI tests with a lifespan."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from asgi_apps import app
from asgi_apps_tasks import CustomError
from asgi_routes import SEEN, VARIABLE, Handler, Receive, Scope, Send, signal


def lifespan_app(events: list[str] | None = None, **answers: Any) -> Handler:
    """An application with lifespan; answers say what its startup and shutdown send."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        assert (await receive())["type"] == "lifespan.startup"
        VARIABLE.set("lifespan")
        SEEN["lifespan"] = "started"
        scope["state"]["list"] = []
        scope["state"]["name"] = "shared"
        print(f"startup {answers.get('name', '')}", file=sys.stderr, flush=True)
        await send(answers.get("startup", {"type": "lifespan.startup.complete"}))
        assert (await receive())["type"] == "lifespan.shutdown"
        print(f"shutdown {answers.get('name', '')}", file=sys.stderr, flush=True)
        await send(answers.get("shutdown", {"type": "lifespan.shutdown.complete"}))
        await asyncio.sleep(0)
        print(f"left {answers.get('name', '')}", file=sys.stderr, flush=True)

    return run


lifespan = lifespan_app(name="one")
lifespan_two = lifespan_app(name="two")
startup_fails = lifespan_app(
    startup={"type": "lifespan.startup.failed", "message": "no database at 10.0.0.1"}
)
starlette_fails = lifespan_app(
    startup={
        "type": "lifespan.startup.failed",
        "message": 'Traceback (most recent call last):\n  File "x.py", line 1\nOSError: no db\n',
    }
)
shutdown_fails = lifespan_app(
    shutdown={"type": "lifespan.shutdown.failed", "message": "could not flush"}
)


async def startup_raises(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        raise CustomError("in startup")
    await app(scope, receive, send)


async def startup_returns(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await app(scope, receive, send)


async def startup_exits(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        sys.exit(3)
    await app(scope, receive, send)


async def serving_raises(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await signal("break").wait()
    raise CustomError("while serving")


async def shutdown_raises(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise CustomError("in shutdown")


async def lifespan_loops(scope: Scope, receive: Receive, send: Send) -> None:
    """The specification's own example, without a return."""
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
