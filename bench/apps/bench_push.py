"""The WebSocket benchmark's application for push: a page class that answers with what
came, and a broadcast to all pages. Plain WSGI."""

import ctypes
import gc
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import guado


class Bench(guado.Page):
    """What every session of the benchmark is."""

    def on_message(self, data: Any) -> Any:
        return data


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = b"Hello, world!\n"
    if environ["PATH_INFO"] == "/broadcast":
        size = int(parse_qs(environ["QUERY_STRING"])["size"][0])
        guado.broadcast("x" * (size - 2)).result(30)
        body = b"ok"
    elif environ["PATH_INFO"] == "/trim":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
