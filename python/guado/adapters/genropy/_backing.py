"""Where the items of a register live: each has a store, and a few fields by which it is found.

Before: _items. After: guado.store, here in memory; in a worker _hosted, over the host's
registries. Not here: what is in the stores.
"""

from __future__ import annotations

from typing import Any, Protocol

from guado.store import Ledger, Owner, Store

KINDS = ("global", "user", "connection", "page")


class Backing(Protocol):
    """All calls come under the register's call lock."""

    def create(self, kind: str, id: str, fields: dict[str, Any]) -> Store:
        """A new store; in the place of one that is there."""

    def changed(self, kind: str, id: str, fields: dict[str, Any]) -> None:
        """Some of the item's fields are others now."""

    def drop(self, kind: str, id: str) -> None:
        """Nothing happens where there is none."""

    def find(self, kind: str, id: str) -> Store | None:
        """The same object as long as it holds the same store."""

    def ids(self, kind: str) -> list[str]:
        """Of all items, the oldest first."""

    def late(self) -> bool:
        """The answer of the request that runs has left, and can take no write with it."""

    def settle(self) -> None:
        """A call is over, and what it wrote is in the stores."""


class Memory:
    """Items in this process, and nowhere else: for tests, and beside the register in charge."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.ledger = Ledger(limit)
        self._owner = Owner("memory", 1)
        self._stores: dict[str, dict[str, Store]] = {kind: {} for kind in KINDS}

    def create(self, kind: str, id: str, fields: dict[str, Any]) -> Store:
        store = Store(self.ledger, self._owner, f"{kind} {id}", limit=self.ledger.limit)
        before = self._stores[kind].get(id)
        if before is not None:
            before.clear()
        self._stores[kind][id] = store
        return store

    def changed(self, kind: str, id: str, fields: dict[str, Any]) -> None:
        """Nobody looks for items by their fields here."""

    def drop(self, kind: str, id: str) -> None:
        store = self._stores[kind].pop(id, None)
        if store is not None:
            store.clear()  # its bytes leave the account

    def find(self, kind: str, id: str) -> Store | None:
        return self._stores[kind].get(id)

    def ids(self, kind: str) -> list[str]:
        return list(self._stores[kind])

    def late(self) -> bool:
        return False

    def settle(self) -> None:
        # There is no host: records are let go.
        self.ledger.take(self.ledger.outside, lambda taken: None, end=True)
