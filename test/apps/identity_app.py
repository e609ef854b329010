"""Who is asking: the same application twice, for WSGI and for ASGI."""

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import guado


def answer(path: str, query: str, fields: dict[str, str]) -> dict[str, Any]:
    """What it does and sees. Fields are those that begin with Guado-, in lower case."""
    told: dict[str, Any] = {"fields": fields}
    if path == "/touch":
        told["connection"] = guado.connection().id
    elif path == "/login":
        connection = guado.connection()
        connection.login(parse_qs(query)["user"][0], "bl")
        told["user"], told["connection"] = connection.user, connection.id
    elif path == "/logout":
        guado.connection().logout()
    return told


def late() -> str:
    """After the head has left."""
    try:
        return guado.connection().id
    except guado.TooLate as error:
        return f"TooLate {error.code}"


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    fields = {
        key[5:].lower().replace("_", "-"): value.encode("latin-1").decode()
        for key, value in environ.items()
        if key.startswith("HTTP_GUADO_")
    }
    path = environ["PATH_INFO"]
    environ["wsgi.input"].read()
    head = [("Content-Type", "application/json"), ("Guado-Own", "never seen")]
    if path == "/late":
        start_response("200 OK", head)
        yield b'["'
        yield late().encode() + b'"]'
        return
    told = answer(path, environ["QUERY_STRING"], fields)
    start_response("200 OK", head)
    yield json.dumps(told).encode()


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    fields = {
        name.decode(): value.decode() for name, value in scope["headers"] if name[:6] == b"guado-"
    }
    head = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"guado-own", b"never seen")],
    }
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/late":
        await send(head)
        await send({"type": "http.response.body", "body": b'["', "more_body": True})
        await send({"type": "http.response.body", "body": late().encode() + b'"]'})
        return
    told = answer(scope["path"], scope["query_string"].decode(), fields)
    await send(head)
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
