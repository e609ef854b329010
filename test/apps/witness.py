"""Remembers every request that reaches it, so that a test can say what did (WSGI and ASGI)."""

import json
from collections.abc import Callable, Iterable
from typing import Any

seen: list[list[str]] = []


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """GET /seen tells and forgets what came before; everything else is echoed."""
    path = environ["PATH_INFO"]
    if path == "/seen":
        answer = json.dumps(seen)
        seen.clear()
    else:
        try:
            body = environ["wsgi.input"].read().decode("latin-1")
        except OSError as cut:
            seen.append([environ["REQUEST_METHOD"], path, "cut: " + type(cut).__name__])
            raise
        seen.append([environ["REQUEST_METHOD"], path, body])
        fields = {k: v for k, v in environ.items() if k.startswith(("HTTP_", "CONTENT_"))}
        answer = json.dumps({"path": path, "body": body, "fields": fields})
    payload = answer.encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(payload)))])
    return [payload]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The same for ASGI."""
    path = scope["path"]
    if path == "/seen":
        answer = json.dumps(seen)
        seen.clear()
    else:
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                seen.append([scope["method"], path, "cut: http.disconnect"])
                return
            body += event.get("body", b"")
            more = event.get("more_body", False)
        text = body.decode("latin-1")
        seen.append([scope["method"], path, text])
        fields = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        answer = json.dumps({"path": path, "body": text, "fields": fields})
    payload = answer.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(payload))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
