"""What the applications of this process declare for the host: page classes, and functions
that hear events.

Before: pages and events, as the applications are imported. After: worker/pages.py, which
tells the host and finds here what it is to call. Not here: calling them.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import guado

if TYPE_CHECKING:
    from guado.pages import Page

HANDLERS = (
    "on_open",
    "on_restore",
    "on_message",
    "on_request",
    "on_write",
    "on_snapshot",
    "on_close",
    "on_event",
)


class Class(NamedTuple):
    """A page class under the name that clients know."""

    type: type[Page]
    app: str  # whose import has defined it

    @property
    def where(self) -> str:
        return f"{self.type.__module__}.{self.type.__qualname__}"

    def handlers(self) -> Iterable[Callable[..., Any]]:
        return (getattr(self.type, name) for name in HANDLERS if hasattr(self.type, name))


class Listener(NamedTuple):
    """A function that hears events."""

    topic: str
    function: Callable[[str, Any], Any]
    app: str

    @property
    def where(self) -> str:
        name = getattr(self.function, "__qualname__", repr(self.function))
        return f"{getattr(self.function, '__module__', '?')}.{name}"


lock = threading.Lock()  # guards all below
classes: dict[str, Class] = {}
listeners: list[Listener] = []
kinds: dict[str, str] = {}  # of each application, once all are imported
tell: Callable[[], None] | None = None  # tells the host; set when it was told first


def add_class(name: str, cls: type[Page]) -> None:
    """Registers a page class. One of the same place in the code takes its predecessor's."""
    new = Class(cls, _app())
    refuse_async(new.app, new.handlers(), f"page class {new.where}")
    with lock:
        old = classes.get(name)
        if old is not None and old.where != new.where:
            raise TypeError(
                f"two page classes are named {name!r}: {old.where} and {new.where}; give one "
                f'another name: class {cls.__name__}(guado.Page, name="…")'
            )
        classes[name] = new
    _told()


def add_listener(topic: str, function: Callable[[str, Any], Any]) -> None:
    """Registers a function that hears events."""
    new = Listener(topic, function, _app())
    refuse_async(new.app, (function,), f"{new.where}, which hears {topic!r}")
    with lock:
        listeners[:] = [one for one in listeners if (one.topic, one.where) != (topic, new.where)]
        listeners.append(new)
    _told()


def _app() -> str:
    """The application that is being imported; later on the first one."""
    return guado._importing or next(iter(kinds), "")


def in_vain(app: str | None = None) -> str:
    """What an application (None: any) declares and nobody can use before phase 3; empty:
    there is nothing."""
    found = [
        *(f"page class {one.where}" for one in classes.values() if app in (None, one.app)),
        *(f"{one.where}, which hears events" for one in listeners if app in (None, one.app)),
    ]
    if not found:
        return ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]}{more}: nothing comes to it in phase 0; write phase = 3 under [server]"


def _told() -> None:
    if tell is not None:
        tell()


def refuse_async(app: str, functions: Iterable[Callable[..., Any]], what: str) -> None:
    """TypeError for an async function of an application that is known to have no loop."""
    if kinds.get(app) != "wsgi":
        return
    for function in functions:
        if inspect.iscoroutinefunction(function):
            name = getattr(function, "__name__", repr(function))
            raise TypeError(
                f"{what}: async def {name} needs an event loop, which the WSGI application "
                f"{app!r} has not; write def {name}"
            )
