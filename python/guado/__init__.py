"""Guado: one server for Python applications of both generations.

Inside a worker this package comes from the server's binary and needs no installation.
"""

from __future__ import annotations

__version__ = "0.1.0"


class RequestTimeout(BaseException):
    """The deadline of this request has passed, and its client was answered 504.

    A BaseException, as KeyboardInterrupt is: code that handles the errors of its own work
    must not take it for one of them. Raised where the application runs, or waits for the
    request's body or for its client.
    """

    def __str__(self) -> str:
        return super().__str__() or "the request's deadline has passed"
