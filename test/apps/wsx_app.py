"""A WSGI application that is asked over WSX and knows nothing of it."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

_seen: list[str] = []
_gates = {name: threading.Event() for name in ("one", "two")}


TOLD = (
    *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE"),
    *("HTTP_COOKIE", "HTTP_ORIGIN", "HTTP_HOST", "REMOTE_ADDR", "wsgi.url_scheme"),
    *("HTTP_GUADO_MESSAGE", "HTTP_GUADO_PAGE", "HTTP_GUADO_CONNECTION", "HTTP_GUADO_USER"),
    *("HTTP_SEC_WEBSOCKET_KEY", "HTTP_ACCEPT_ENCODING", "HTTP_TRACEPARENT"),
)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers by path, and tells what it was asked."""
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read()
    fields = [("Content-Type", "application/json")]
    status = "200 OK"
    if path == "/page":
        fields = [("Content-Type", "text/xml"), ("X-GnrTime", "7")]
        fields += [("X-Other", "no"), ("Set-Cookie", "a=b")]
        form = {k: v[0] for k, v in parse_qs(body.decode()).items()}
        if form.get("method") == "fail":
            status = "412 Precondition Failed"
        answer = f"<page>{form['page_id']}</page><value>{form.get('value')}</value>"
        answer = f"<GenRoBag>{answer}</GenRoBag>"
    elif path == "/wait":
        name = environ["QUERY_STRING"]
        _seen.append(f"began {name}")
        _gates[name].wait(60)
        _seen.append(f"ended {name}")
        answer = json.dumps(name)
    elif path == "/go":
        _gates[environ["QUERY_STRING"]].set()
        answer = "true"
    elif path == "/note":
        _seen.append(body.decode())
        answer = "null"
    elif path == "/seen":
        answer = json.dumps(_seen)
    elif path == "/slowly":
        time.sleep(0.002)
        answer = json.dumps(json.loads(body))
    elif path == "/large":
        _seen.append("large")
        answer = json.dumps("x" * int(environ["QUERY_STRING"]))
    elif path == "/bytes":
        start_response("200 OK", [("Content-Type", "image/png")])
        return [b"\x89PNG\xff"]
    elif path == "/login":
        start_response("200 OK", [("Guado-User", "ada")])
        return []
    elif path == "/nothing":
        start_response("204 No Content", [])
        return []
    elif path == "/raise":
        raise ValueError("the secret reason")
    else:
        answer = json.dumps({k: environ.get(k) for k in TOLD} | {"body": body.decode()})
    start_response(status, fields)
    return [answer.encode()]
