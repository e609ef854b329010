"""Who waits for what in this worker, so that nobody waits in vain: for locks of stores, and for
turns of pages.

Before: _locks and _turns, whose waits all go through here. After: nothing. Not here: who is let
in, which locks decide by themselves and the host does for turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from guado import _request
from guado._native import LockBase, LocksBase, Mutex

if TYPE_CHECKING:
    from guado._ledger import Exchange

Loop = asyncio.AbstractEventLoop

LOOP_PATIENCE = 1.0  # seconds that the thread of an event loop waits: nothing else runs in it
IN_A_LOOP = "use async with; for a plain read or write of a store: async with store.transaction()"
ON_LOOP = f"; the thread of an event loop waits no longer: {IN_A_LOOP}"


class Deadlock(RuntimeError):
    """Who waits here would never be let in, for the other one waits for it."""

    __module__ = "guado"  # by which people know it


class LockTimeout(TimeoutError):
    """The lock, or the turn of the page, was not free in time."""

    __module__ = "guado"


def patience(loop: Loop | None, timeout: float) -> float:
    """How long is waited at most where `loop` runs in this thread."""
    return timeout if loop is None else min(timeout, LOOP_PATIENCE)


class Turn:
    """The turn of a page, while somebody here has taken it, waits for it, or has it as its
    handler and waits for something else. Of other handlers nobody needs to know."""

    __slots__ = ("__weakref__", "loop", "owner", "page")

    def __init__(self, page: str) -> None:
        self.page = page
        self.owner: Exchange | None = None
        self.loop: Loop | None = None

    def __str__(self) -> str:
        return f"the turn of page {self.page}"


Thing = LockBase | Turn


class Waits(LocksBase):
    """All waits of a worker. `changed` guards them and the owners of locks and turns, and is
    told of each release."""

    def __init__(self) -> None:
        self._mutex = Mutex()
        self.changed = threading.Condition(self._mutex)
        self.waiting: dict[Exchange, list[Any]] = {}  # of Thing
        self.blocked: dict[Loop, Thing] = {}  # loops whose thread waits
        self.tasks: set[Callable[[], None]] = set()  # wakers of coroutines that wait
        self.turns: weakref.WeakValueDictionary[str, Turn] = weakref.WeakValueDictionary()
        self.own: dict[Exchange, Turn] = {}  # of handlers that wait

    @contextlib.contextmanager
    def while_waiting(self, turn: Turn, exchange: Exchange, loop: Loop | None) -> Iterator[None]:
        """Around the wait for a turn, which the host gives. Deadlock: it never would."""
        try:
            with self.changed:
                self.wait_for(turn, exchange, loop)
                self.check(turn, exchange, loop)
            yield
        finally:
            try:  # a wait that is left here would be taken for one
                self._waited(turn, exchange, loop)
            except BaseException:  # interrupted: once more
                self._waited(turn, exchange, loop)
                raise

    def _waited(self, turn: Turn, exchange: Exchange, loop: Loop | None) -> None:
        with self.changed:
            self.wait_over(turn, exchange, loop)

    # Below, `changed` is held.

    def tell(self) -> None:
        self.changed.notify_all()
        for waker in self.tasks:
            waker()

    def turn(self, page: str) -> Turn:
        turn = self.turns.get(page)
        if turn is None:
            turn = self.turns[page] = Turn(page)
        return turn

    def wait_for(self, thing: Thing, exchange: Exchange, loop: Loop | None) -> None:
        """`exchange` is about to wait; `loop`: and the thread of this loop with it."""
        self.waiting.setdefault(exchange, []).append(thing)
        if loop is not None:
            self.blocked[loop] = thing
        page = _page_of(exchange)
        if page:
            own = self.own[exchange] = self.turn(page)
            own.owner = exchange

    def wait_over(self, thing: Thing, exchange: Exchange, loop: Loop | None) -> None:
        """It does not wait any more, or never did: that may be said twice."""
        waiting = self.waiting.get(exchange)
        if waiting is not None and thing in waiting:
            waiting.remove(thing)
            if not waiting:
                del self.waiting[exchange]
                own = self.own.pop(exchange, None)
                if own is not None:
                    own.owner = None
        if loop is not None:
            self.blocked.pop(loop, None)

    def check(self, thing: Thing, exchange: Exchange, loop: Loop | None) -> None:
        """Deadlock where who has it cannot go on before `exchange` does. While a thread waits,
        nothing of its loop goes on."""
        before: dict[Thing, Thing | None] = {thing: None}
        look = [thing]
        while look:
            one = look.pop()
            owner = one.owner
            if owner is None or owner.over:
                continue
            if owner is exchange:
                raise Deadlock(self._told(exchange, one, before))
            if loop is not None and one.loop is loop:
                why = f", a task of the event loop whose thread would wait; {IN_A_LOOP}"
                raise Deadlock(self._told(exchange, one, before) + why)
            if loop is not None and _ends_with_answer(one, owner):
                why = " in a transaction until the event loop, whose thread would wait, sends its "
                raise Deadlock(self._told(exchange, one, before) + why + f"answer; {IN_A_LOOP}")
            behind = [*self.waiting.get(owner, ())]
            if one.loop is not None and one.loop in self.blocked:
                behind.append(self.blocked[one.loop])
            for other in behind:
                if other not in before:
                    before[other] = one
                    look.append(other)

    def _told(self, exchange: Exchange, last: Thing, before: dict[Thing, Thing | None]) -> str:
        """The way from who waits to `last`, for people."""
        text = f"{last}, which {last.owner} has"
        while (one := before[last]) is not None:
            itself = one.owner is not None and last in self.waiting.get(one.owner, ())
            verb = "waits" if itself else "stands still, as the thread of its event loop waits"
            text = f"{one}, which {one.owner} has, which {verb} for {text}"
            last = one
        return f"{exchange} waits for {text}"


def _page_of(exchange: Exchange) -> str | None:
    """The page whose handler `exchange` is, alone with it."""
    from guado import _ledger

    here = _request.current()
    if not isinstance(here, _request.Turn) or not here.alone:
        return None
    mine = _ledger.current() is exchange or (here.stores and here.stores.exchange is exchange)
    return here.page if mine else None


def _ends_with_answer(thing: Thing, owner: Exchange) -> bool:
    """Whether the loop of a worker has to send an answer before the lock is given back."""
    return (
        isinstance(owner.name, dict)
        and "type" in owner.name
        and threading.current_thread() is threading.main_thread()
        and any(store._lock is thing for store in (*owner.open, *owner.closed))
    )
