"""Applications of the tests of guado.registry: /NAME runs a function of ROUTES, /await/NAME
awaits what it gives."""

from __future__ import annotations

import datetime
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from guado import HostError, registry

UTC = datetime.UTC
MOMENT = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)

ROUTES: dict[str, Callable[[], Any]] = {
    "create": lambda: registry.pages.create(
        "P1", connection="C1", user_agent=None, fields={"root": "R", "n": 1}
    ),
    "get": lambda: registry.pages.get("P1"),
    "none": lambda: registry.users.get("nobody"),
    "exists": lambda: registry.connections.exists("C1"),
    "list": lambda: registry.pages.list(
        5, user=None, last_seen__min=MOMENT, title__prefix="U", title__matches="s$", id__in=("a",)
    ),
    "count": lambda: registry.users.count(),
    "update": lambda: registry.connections.update("C1", user=None, fields={"n": None}),
    "touch": lambda: registry.pages.touch("P1"),
    "drop": lambda: registry.pages.drop("P1", cascade=True),
    "missing": lambda: registry.users.update("nobody", fields={}),
    "unknown": lambda: registry.users.create("ann", colour="red"),  # type: ignore[call-arg]
    "twice": lambda: registry.users.count(user="ann", user__in=["bob"]),
    "unfit": lambda: registry.users.create("ann", fields={"at": MOMENT}),
}


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, registry.Item):
        assert value.started.tzinfo is not None
        return [
            repr(value),
            value.fields,
            value.pages,
            value.connected,
            value.last_seen.isoformat(),
        ]
    return value


def failure(error: Exception) -> Any:
    return [type(error).__name__, str(error), getattr(error, "code", "")]


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    try:
        answer = plain(ROUTES[environ["PATH_INFO"].strip("/")]().result())
    except (HostError, TypeError) as error:
        answer = failure(error)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    assert scope["type"] == "http"
    name = scope["path"].strip("/")
    try:
        if name.startswith("await/"):
            answer = plain(await ROUTES[name.removeprefix("await/")]())
        else:
            answer = plain(ROUTES[name]().result())
    except (HostError, TypeError) as error:
        answer = failure(error)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
