"""The application of the ASGI tests: one route per behaviour."""

from __future__ import annotations

from typing import Any

import asgi_apps_messages
import asgi_apps_tasks
from asgi_routes import Receive, Scope, Send, app, reply, route

__all__ = ["app", "asgi_apps_messages", "asgi_apps_tasks"]


def plain(value: Any) -> Any:
    """A scope as JSON that keeps the types apart."""
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, tuple):
        return {"tuple": [plain(v) for v in value]}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    assert value is None or type(value) in (str, int, bool), type(value)
    return value


@route("/scope")
async def show_scope(scope: Scope, receive: Receive, send: Send) -> None:
    assert type(scope) is dict
    await reply(send, plain(scope))


@route("/dirty-scope")
async def dirty_scope(scope: Scope, receive: Receive, send: Send) -> None:
    shown = plain(scope)
    scope["asgi"]["version"] = "dirty"
    scope["extensions"]["http.response.pathsend"]["dirty"] = True
    scope["extensions"].clear()
    scope["state"]["dirty"] = True
    scope["headers"].clear()
    scope.clear()
    await reply(send, shown)


@route("/state")
async def state(scope: Scope, receive: Receive, send: Send) -> None:
    await reply(send, scope["state"])
    scope["state"]["list"].append("x")  # shallow: the list is everybody's
    scope["state"]["own"] = True
