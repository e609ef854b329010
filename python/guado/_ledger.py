"""What a worker has written and the host does not have yet: who has touched which store, and
which records travel with whose commit.

Before: store records; whoever serves an exchange makes one here and commits it. After: the
commit queue, through the function that `take` is given. Not here: what is in a store, and
what else a commit carries.

The record lock guards all that stores and this hold. Nothing is waited for under it, and
no code of the application runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from guado import _native, _request
from guado._locks import Locks
from guado._native import ExchangeBase, LedgerBase, Mutex

if TYPE_CHECKING:
    from guado._writes import Writes as Store


class StoreError(Exception):
    """A store could not do what it was asked; nothing of it was done."""

    __module__ = "guado"


class StoreFull(StoreError):
    """The write would take the store, or all of the worker's, above its limit."""

    __module__ = "guado"


class StoreGone(StoreError, LookupError):
    """The page, connection or user has ended, and its store with it."""

    __module__ = "guado"


class ReadOnly(StoreError):
    """This exchange's answer has left: a write needs the page's turn again."""

    __module__ = "guado"


class Batch(NamedTuple):
    """Records of one store that travel in one commit."""

    store: Store
    token: int
    records: int
    data: bytes


class Taken(NamedTuple):
    """What a commit carries of stores."""

    sequence: int
    generations: dict[str, int]  # of every user whose stores were touched
    batches: list[Batch]

    def encode(self) -> bytes:
        """As protocol/store.md, section 6, has it."""
        return _native.store_encode_state(*self)


class Exchange(ExchangeBase):
    """Who reads and writes: a request, a turn, a message. The owner of locks. Its name is told
    to people; of a request it is the environ or scope.

    `generations`: of the users that are known at its entry. Of others it has what was
    current when it first touched a store of theirs. `over`: its code is gone; what some
    task of it still writes is written outside of every exchange."""

    __slots__ = ()

    def __repr__(self) -> str:
        return self.name if isinstance(self.name, str) else _request.title(self.name)


class Owner:
    """A user of this worker, with the generation under which the worker has it."""

    __slots__ = ("generation", "name")

    def __init__(self, name: str, generation: int) -> None:
        self.name = name
        self.generation = generation


_current: ContextVar[Exchange | None] = ContextVar("guado_exchange", default=None)
current = _current.get
enter = _current.set
_native.store_setup(current=current)


class Ledger(LedgerBase):
    """The one of a worker. `limit` is of the bytes of all its stores; `loose` is called when
    code outside of every exchange has written: somebody must commit `ledger.outside`.
    `enter` finds the exchange of code that has not entered one yet; by itself: outside."""

    def __init__(
        self,
        limit: int = 1 << 30,
        loose: Callable[[], None] | None = None,
        enter: Callable[[], Exchange] | None = None,
    ) -> None:
        self.lock = Mutex()
        self.limit = limit
        self.bytes = 0  # guarded by the lock, as all of the stores
        self.sequence = 0
        self.locks = Locks()
        self.outside = Exchange("code outside of every request")
        self.loose = loose or (lambda: None)
        self.enter = enter or (lambda: self.outside)

    @contextlib.contextmanager
    def exchange(self, exchange: Exchange) -> Iterator[Exchange]:
        """Around the code of an exchange. It commits nothing."""
        before = _current.set(exchange)
        try:
            yield exchange
        finally:
            _current.reset(before)

    def touch(self, exchange: Exchange, store: Store) -> None:
        with self.lock:
            exchange.touched.add(store)
            owner = store.owner
            exchange.generations.setdefault(owner.name, owner.generation)

    def take(
        self,
        exchange: Exchange,
        seal: Callable[[Taken], None],
        end: bool = False,
        even: bool = False,
    ) -> bool:
        """Gives `seal` all that must travel with this commit: of every store that was
        touched, the records up to the first one of another exchange's open transaction.
        `seal` puts the frame into the commit queue; it runs under the record lock and may
        not wait. False: nothing was touched since the last time, so nothing is committed,
        unless with `even`: there is more to it than stores.

        Behind it, transactions that are over are unlocked; with `end` all that the
        exchange has locked, for its code is gone."""
        if not (even or exchange.touched or exchange.held or exchange.pickles):
            return False
        for store, path, held in list(exchange.pickles.values()):
            store._compare(path, held)
        taken = self._commit(exchange, seal, even)
        self._behind(exchange, end)
        return taken

    def take_by(
        self, exchange: Exchange, commit: Callable[[], bool], end: bool = False, even: bool = False
    ) -> bool:
        """The same where `commit` does both: it gathers and seals, and says whether there was
        anything to commit."""
        if not (even or exchange.touched or exchange.held or exchange.pickles):
            return False
        for store, path, held in list(exchange.pickles.values()):
            store._compare(path, held)
        taken = commit()
        if end or exchange.closed:
            self._behind(exchange, end)
        return taken

    def _behind(self, exchange: Exchange, end: bool) -> None:
        """Unlocks what the commit ends."""
        over: Iterable[Store] = ()
        if exchange.closed or (end and exchange.open):
            with self.lock:
                left = {*exchange.open, *exchange.closed} if end else exchange.closed
                over = [s for s in left if s._gate is exchange]
                for store in over:
                    store._gate = None
                exchange.closed.clear()
        if not end:
            for store in over:
                store._lock.release(exchange)
            return
        exchange.open.clear()
        exchange.pickles = {}
        self.locks.release_all(exchange)


_native.store_setup(batch=Batch, taken=Taken)
