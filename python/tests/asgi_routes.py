"""What the applications of the ASGI tests share: routes, helpers, signals between requests."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

if os.environ.get("TEST_LOOP") == "asyncio":
    sys.modules["uvloop"] = None  # type: ignore[assignment]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTES: dict[str, Handler] = {}
SIGNALS: dict[str, asyncio.Event] = {}
SEEN: dict[str, Any] = {}
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")
VARIABLE.set("import")


def route(path: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        ROUTES[path] = handler
        return handler

    return register


def signal(name: str) -> asyncio.Event:
    return SIGNALS.setdefault(name, asyncio.Event())


async def answer(send: Send, body: bytes, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def reply(send: Send, value: object) -> None:
    await answer(send, json.dumps(value).encode())


async def start(send: Send, status: int = 200, headers: Any = (), **more: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def body(send: Send, data: Any = b"", more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def read(receive: Receive) -> bytes:
    data, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        data += message["body"]
        more = message["more_body"]
    return data


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise ValueError("this application knows http only")
    path = scope["path"].removeprefix(scope["root_path"])
    if path.startswith("/wait/"):
        await signal(path[6:]).wait()
        await answer(send, path[6:].encode())
    elif path.startswith("/set/"):
        signal(path[5:]).set()
        await answer(send, b"set")
    elif path.startswith("/seen/"):
        await reply(send, SEEN.get(path[6:]))
    else:
        await (ROUTES.get(path) or under(path))(scope, receive, send)


def under(path: str) -> Handler:
    return ROUTES["/scope" if path.startswith("/scope") else "/hello"]


@route("/hello")
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"hello", headers=[(b"content-type", b"text/plain")])
