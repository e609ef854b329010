"""Stores in memory: a state as a worker's, of whose commits clients of pages hear.

Before: guado._state.current. After: guado.store. Not here: what a store does, which is the
same code as in a worker; who owns a store, which the host in memory says.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator

from guado import _ledger, _request, _state
from guado._ledger import Exchange, Ledger, Owner
from guado.errors import NoItem, NoPage
from guado.store import CONNECTION, PAGE, USER, Store
from guado.testing._memory import Browser, Host
from guado.testing._shared import Sharing


class Running(_state.Running):
    """A request or turn that has asked for a page's turn."""

    def __init__(self, state: State, exchange: Exchange) -> None:
        self.memory, self.exchange = state, exchange
        self.over = False
        self.headed = exchange.read_only
        self.turns = {}

    def flush(self) -> None:
        self.memory.take(self.exchange)


_KINDS = {PAGE: "page", CONNECTION: "connection", USER: "user"}


class State(_state.State):
    """The one of a test's worker."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.ledger = Ledger(loose=lambda: self.take(self.ledger.outside, end=True))
        self.lock = threading.Lock()  # guards all below
        self.owners: dict[str, Owner] = {}
        self.stores: dict[tuple[int, str], Store] = {}
        self.runs: dict[Exchange, Running] = {}
        self.sharing = Sharing(self.stores)

    # As the API asks.

    def exchange(self) -> Exchange:
        return _ledger.current() or self.ledger.outside

    def commit(self) -> None:
        self.take(self.exchange())

    def running(self, current: _request.Current) -> Running | None:
        exchange = self.exchange()
        if exchange is self.ledger.outside:
            return None
        with self.lock:
            return self.runs.setdefault(exchange, Running(self, exchange))

    def store(self, kind: int, id: str) -> Store:
        owner = id if kind == USER else self.item(kind, id).owner
        with self.lock:
            store = self.stores.get((kind, id))
            if store is None:
                store = self.stores[kind, id] = self.made(kind, id, owner)
            return store

    def item(self, kind: int, id: str) -> Browser:
        """The browser of a page or connection."""
        browser = self.host.browsers.get(id)
        if kind == PAGE:
            tab = self.host.tabs.get(id) or self.host.closing.get(id)
            browser = tab.browser if tab is not None else None
        if browser is None:
            error = NoPage if kind == PAGE else NoItem
            raise error(f"there is no {_KINDS[kind]} {id}", f"no_{_KINDS[kind]}")
        return browser

    def made(self, kind: int, id: str, owner: str) -> Store:
        whose = self.owners.setdefault(owner, Owner(owner, 1))
        return Store(self.ledger, whose, f"{_KINDS[kind]} {id}", kind=kind, id=id)

    # As the test's host says.

    @contextlib.contextmanager
    def around(self, name: str) -> Iterator[Exchange]:
        """Around the code of a request or turn. Its commit is the end of it."""
        exchange = Exchange(name)
        token = _ledger._current.set(exchange)
        try:
            yield exchange
        finally:
            _ledger._current.reset(token)
            self.take(exchange, end=True)

    def enter(self, context: contextvars.Context, name: str) -> Exchange:
        """The same for code that runs in a context of its own; `take` ends it."""
        exchange = Exchange(name)
        context.run(_ledger._current.set, exchange)
        return exchange

    def head(self, exchange: Exchange) -> None:
        """The head of its answer leaves."""
        self.take(exchange)
        running = self.runs.get(exchange)
        if running is not None:
            running.headed = True
        exchange.read_only = running is None or not running.turns

    def take(self, exchange: Exchange, end: bool = False) -> None:
        self.ledger.take(exchange, self.sharing.committed, end)
        if end and (running := self.runs.pop(exchange, None)) is not None:
            running.over = True
            running._give_turns()

    def changed(self, browser: Browser, before: str) -> None:
        """Somebody has logged in or out. What was a guest's becomes the user's, but for the
        guest's own store; what was a user's ends."""
        owner = browser.owner
        if before.startswith("g:"):
            self.ended(USER, before)
            with self.lock:
                whose = self.owners.setdefault(owner, Owner(owner, 1))
                for (kind, _), store in self.stores.items():
                    if kind != USER and store.owner.name == before:
                        store.owner = whose
        else:
            self.ended(CONNECTION, browser.id)

    def gone(self, kind: str, id: str) -> None:
        """An item has ended."""
        for number, name in _KINDS.items():
            if name == kind:
                self.ended(number, f"u:{id}" if number == USER else id)

    def bytes_of(self, kind: str, id: str) -> int:
        """What the store of an item costs."""
        key = f"u:{id}" if kind == "user" else id
        found = [s for (k, i), s in self.stores.items() if _KINDS[k] == kind and i == key]
        return found[0].bytes if found else 0

    def ended(self, kind: int, id: str) -> None:
        with self.lock:
            store = self.stores.pop((kind, id), None)
        if store is not None:
            store.restore(b"")  # its bytes count no more
        if kind == PAGE:
            self.sharing.clients.pop(id, None)

    def reborn(self) -> None:
        """A new worker has the stores as their records have them, and nothing else."""
        with self.lock:
            for (kind, id), store in list(self.stores.items()):
                records = store.snapshot()
                store.restore(b"")
                made = self.stores[kind, id] = self.made(kind, id, store.owner.name)
                made.restore(records)
