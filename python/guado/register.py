"""The register of before: what an application keeps its users, connections and pages in while
the server does not, and what `[[app]] register = "module:object"` names.

Before: the application, below phase 4. After: _phases, which takes all of it over with the step
to phase 4, and gives all of it back with the step below. Not here: the host's own registers
(registry), GenroPy's (adapters.genropy).

    class Register:
        def items(self) -> Iterable[guado.register.Item]: ...
        def replace(self, items: list[guado.register.Item]) -> None: ...

One that keeps some kinds of items alone names them: `kinds = ("user",)`. It is given no others,
and those of the server end with the step back.

While either runs no request does. What `data` holds is what the item's store holds: text keys,
and the values of protocol/store.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import guado
from guado import _host

__all__ = ["KINDS", "Item", "Register", "phase"]

KINDS = ("user", "connection", "page")


class Item(NamedTuple):
    """A user, connection or page with all that is known of it."""

    kind: str  # one of KINDS
    id: str  # of a user the name; else 22 letters, digits or "_"
    user: str | None = None  # of a connection: whose; None: a guest's
    connection: str | None = None  # of a page
    fields: Mapping[str, Any] = {}  # JSON; as of guado.registry
    data: Mapping[str, Any] = {}  # its store

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Register(Protocol):
    """What `[[app]] register` names, or a class or function that makes it."""

    # It may have `kinds: Collection[str]`, some of KINDS, where it does not keep all.

    def items(self) -> Iterable[Item]:
        """All of them, in any order."""

    def replace(self, items: list[Item]) -> None:
        """From now on it has these, and no others."""


def phase() -> int:
    """That of the server which runs this, or of the block of guado.testing; else 0."""
    if _host.instead is not None:
        return _host.instead.phase
    worker = guado._worker
    return 0 if worker is None else worker.phase
