"""A WSGI application that writes down what pages tell it, before it answers with the same."""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

_log = os.open(os.environ["HEARD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    page = environ.get("HTTP_GUADO_PAGE", "")
    os.write(_log, f"{page} {body.decode()}\n".encode())
    time.sleep(0.02)  # so that a worker that is killed has something under way
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
