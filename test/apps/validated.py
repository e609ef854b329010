"""wsgiref.validate around a WSGI application: it raises when the server breaks PEP 3333."""

from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator


def plain(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Echoes a body in two pieces, and says what it was called with."""
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size) if size else b""
    start("200 OK", [("Content-Type", "text/plain"), ("X-Path", environ["PATH_INFO"])])
    return [b"validated ", body]


application = validator(plain)
