"""Guado: one server for Python applications of both generations.

Inside a worker this package comes from the server's binary and needs no installation.

Users, connections and pages (from phase 3 on):

* ``guado.page(id)``, ``guado.user(name)``, ``guado.connection()``, ``guado.broadcast(...)``:
  push to them, log in and out (:mod:`guado.push`)
* ``class Board(guado.Page)``, ``guado.new_page(Board)``: an object for every open page
  (:mod:`guado.pages`)
* ``guado.registry.pages``, ``.connections``, ``.users``: who is there (:mod:`guado.registry`)
* ``guado.publish(topic, data)``, ``@guado.on(topic)``: events (:mod:`guado.events`);
  ``guado.dbevent(table, …)``: about rows of a database

The global store (from phase 4 on): ``guado.global_store()`` (:mod:`guado.globalstore`).

In every phase: ``guado.executor(name).submit(function, argument)`` (:mod:`guado.executors`).
"""

from __future__ import annotations

import os

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from guado import _core, registry
    from guado._dbevents import dbevent, dbevents
    from guado._shared import ClientWrite, ClientWrites
    from guado._values import MISSING
    from guado.errors import (
        HostError,
        LoginUnderWay,
        NoItem,
        NoPage,
        NoRequest,
        PageError,
        PhaseError,
        TooLate,
    )
    from guado.events import Published, on, publish
    from guado.executors import (
        Executor,
        ExecutorError,
        ProcessDied,
        QueueFull,
        Task,
        TaskTimeout,
        UnknownExecutor,
        executor,
    )
    from guado.globalstore import GlobalFull, GlobalStore, global_store
    from guado.pages import Page, PageRequest, concurrent, new_page
    from guado.push import (
        Connection,
        Delivered,
        Delivery,
        PageHandle,
        User,
        broadcast,
        connection,
        page,
        user,
    )
    from guado.store import (
        Deadlock,
        LockTimeout,
        ReadOnly,
        Store,
        StoreError,
        StoreFull,
        StoreGone,
        transaction,
    )

__all__ = [
    "MISSING",
    "ClientWrite",
    "ClientWrites",
    "Connection",
    "Deadlock",
    "Delivered",
    "Delivery",
    "Executor",
    "ExecutorError",
    "GlobalFull",
    "GlobalStore",
    "HostError",
    "LockTimeout",
    "LoginUnderWay",
    "NoItem",
    "NoPage",
    "NoRequest",
    "Page",
    "PageError",
    "PageHandle",
    "PageRequest",
    "PhaseError",
    "ProcessDied",
    "Published",
    "QueueFull",
    "ReadOnly",
    "RequestTimeout",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreGone",
    "Task",
    "TaskTimeout",
    "TooLate",
    "UnknownExecutor",
    "User",
    "__version__",
    "broadcast",
    "concurrent",
    "connection",
    "dbevent",
    "dbevents",
    "executor",
    "global_store",
    "new_page",
    "on",
    "page",
    "publish",
    "registry",
    "transaction",
    "user",
]

_MODULES = {
    "errors": (
        "HostError",
        "LoginUnderWay",
        "NoItem",
        "NoPage",
        "NoRequest",
        "PageError",
        "PhaseError",
        "TooLate",
    ),
    "_dbevents": ("dbevent", "dbevents"),
    "_shared": ("ClientWrite", "ClientWrites"),
    "events": ("Published", "on", "publish"),
    "executors": (
        "Executor",
        "ExecutorError",
        "ProcessDied",
        "QueueFull",
        "Task",
        "TaskTimeout",
        "UnknownExecutor",
        "executor",
    ),
    "_values": ("MISSING",),
    "globalstore": ("GlobalFull", "GlobalStore", "global_store"),
    "pages": ("Page", "PageRequest", "concurrent", "new_page"),
    "store": (
        "Deadlock",
        "LockTimeout",
        "ReadOnly",
        "Store",
        "StoreError",
        "StoreFull",
        "StoreGone",
        "transaction",
    ),
    "push": (
        "Connection",
        "Delivered",
        "Delivery",
        "PageHandle",
        "User",
        "broadcast",
        "connection",
        "page",
        "user",
    ),
}


class _Worker:
    """What a worker is told at its boot, for the parts that talk with the host."""

    def __init__(
        self, link: _core.Link, executors: dict[str, bool], phase: int = 0, state_bytes: int = 0
    ) -> None:
        self.link = link
        self.executors = executors  # of each, whether it is bypassed
        self.phase = phase
        self.state_bytes = state_bytes or 1 << 30  # what all its stores may cost
        self.pid = os.getpid()  # a forked child has not the link
        self.serves = False  # its applications are imported, and requests may come


_worker: _Worker | None = None  # set by a worker at its boot
_importing = ""  # the application that it imports just now


class RequestTimeout(BaseException):
    """The deadline of this request has passed, and its client was answered 504.

    A BaseException, as KeyboardInterrupt is: code that handles the errors of its own work
    must not take it for one of them. Raised where the application runs, or waits for the
    request's body or for its client.
    """

    def __str__(self) -> str:
        return super().__str__() or "the request's deadline has passed"


def __getattr__(name: str) -> Any:
    """Loads what an application uses of the package when it does: most use nothing."""
    for module, names in _MODULES.items():
        if name in names:
            import importlib

            found = getattr(importlib.import_module(f"guado.{module}"), name)
            globals()[name] = found
            return found
    if name == "registry":
        import importlib

        return importlib.import_module("guado.registry")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
