"""What can go wrong between an application and the host, and between a page and its client.

Before: push, pages and events raise these. Not here: executors' own errors
(guado.executors), and guado.RequestTimeout.
"""

from __future__ import annotations


class HostError(Exception):
    """The host did not do what it was asked. `code` is its stable word for why:
    ``no_host``, ``forked``, ``link_closed``, ``queue_full``, ``too_large``, ``failed``, …"""

    def __init__(self, message: str, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class PhaseError(HostError):
    """The server does not know users, connections and pages: that begins with phase 3."""

    def __init__(self, message: str = "", code: str = "phase") -> None:
        super().__init__(
            message or "this needs phase 3: write phase = 3 under [server] in guado.toml", code
        )


class NoPage(HostError, LookupError):
    """There is no such page: it has ended, or never was; or this request has none."""


class NoItem(HostError, LookupError):
    """There is no such user, connection or page (any more)."""


class NoRequest(HostError, LookupError):
    """This is no request's code: a thread or program of its own, or a page's handler."""


class LoginUnderWay(HostError):
    """The request came with the cookie of before a login or logout, whose successor is on its
    way to the browser: no page is opened for whoever has the old one. The browser's next
    request knows better: answer 503 with ``Retry-After: 1``."""


class TooLate(HostError):
    """The answer's head has been sent, or the request is over: no cookie can follow."""


class PageError(Exception):
    """Raised by a page's handler: its client gets `code` and `message` as the error of its
    request. Of any other exception it hears ``failed`` and nothing more."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    _refuses = False  # the page itself: it was raised when its object was made

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


_CLASSES: dict[str, type[HostError]] = {
    "no_page": NoPage,
    "no_item": NoItem,
    "no_connection": NoItem,
    "login_under_way": LoginUnderWay,
    "no_exchange": TooLate,
    "head_sent": TooLate,
    "phase": PhaseError,
    "unknown_call": PhaseError,
}


def of_code(code: str, message: str) -> HostError:
    """The exception for what the host answered."""
    if code == "unknown_call":
        message = ""  # PhaseError says what to do
    return _CLASSES.get(code, HostError)(message, code or "failed")
