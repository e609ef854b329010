"""Locks of stores: owned by an exchange, and never waited for in vain.

Before: store (lock, transaction), _turns. After: _cycles, which knows who waits for what. Not
here: what a transaction keeps others from (store), the record lock (_ledger).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from guado import _native, _waits
from guado._cycles import ON_LOOP, Deadlock, LockTimeout, Loop, Waits, patience
from guado._native import LockBase

if TYPE_CHECKING:
    from guado._ledger import Exchange

__all__ = ["Deadlock", "Held", "Lock", "LockTimeout", "Locks"]


class Locks(Waits):
    """All locks of a worker. `changed` guards their owners, and is told of each release."""

    def release_all(self, exchange: Exchange) -> None:
        """The exchange is over, and its code with it."""
        if not exchange.held:
            return
        with self.changed:
            for lock in exchange.held:
                if lock.owner is exchange:  # else it was interrupted in giving it back
                    lock.forget()
            exchange.held = set()
            self.tell()


class Lock(LockBase):
    """The lock of one store."""

    __slots__ = ()

    def __init__(self, locks: Locks, name: str) -> None:
        self.locks = locks
        self.name = name
        self.token = 0  # of who has it; grows with every new owner
        self.owner: Exchange | None = None
        self.depth = 0
        self.loop: Loop | None = None  # where its owner took it, if in one
        self.queue: list[object] | None = None  # who waits, the longest first

    def __str__(self) -> str:
        return f"the lock of {self.name}"

    def forget(self) -> None:
        self.owner, self.depth, self.loop = None, 0, None

    def acquire(self, exchange: Exchange, timeout: float) -> None:
        """Waits in this thread; in that of an event loop not for long."""
        if self._take(exchange):
            return
        loop = asyncio._get_running_loop()
        ticket = object()
        timeout = patience(loop, timeout)
        end = time.monotonic() + timeout
        locks = self.locks
        with _waits.woken_by(self._wake), locks.changed:
            if self._enter(exchange, loop, ticket):
                return
            try:
                self._wait_for(exchange, loop, ticket)
                while True:  # a loop with a condition goes back outside of this try (3.13)
                    if self._enter(exchange, loop, ticket):
                        return
                    locks.check(self, exchange, loop)
                    left = end - time.monotonic()
                    if left <= 0:
                        raise self._late(timeout, loop)
                    locks.changed.wait(left)
            finally:
                try:  # nobody would ever be let in behind a ticket that is left
                    self._leave(exchange, loop, ticket)
                except BaseException:  # interrupted: once more
                    self._leave(exchange, loop, ticket)
                    locks.tell()
                    raise

    async def acquire_async(self, exchange: Exchange, timeout: float) -> None:
        """Waits in this task, and lets the others of the loop go on."""
        if self._take(exchange):
            return
        loop = asyncio.get_running_loop()
        ticket = object()
        locks = self.locks
        came = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(came.set)

        with locks.changed:
            if self._enter(exchange, loop, ticket):
                return
            self._wait_for(exchange, None, ticket)
            locks.tasks.add(wake)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    came.clear()
                    with locks.changed:
                        if self._enter(exchange, loop, ticket):
                            return
                        locks.check(self, exchange, None)
                    await came.wait()
        except TimeoutError:
            raise self._late(timeout) from None
        finally:
            with locks.changed:
                locks.tasks.discard(wake)
                self._leave(exchange, None, ticket)

    def release(self, exchange: Exchange) -> None:
        if self._give_back(exchange):
            return
        with self.locks.changed:
            if self.owner is not exchange:  # it was ended meanwhile
                return
            self.depth -= 1
            if self.depth == 0:
                self.forget()  # first: what is interrupted here is told of by release_all
                exchange.held.discard(self)
                self.locks.tell()

    # Below, `changed` is held.

    def _enter(self, exchange: Exchange, loop: Loop | None, ticket: object) -> bool:
        if self.owner is exchange:
            self.depth += 1
            return True
        first = not self.queue or self.queue[0] is ticket
        if self.owner is not None or not first:
            return False
        self.owner, self.depth, self.loop = exchange, 1, loop
        self.locks.token += 1
        self.token = self.locks.token
        exchange.held.add(self)
        return True

    def _wait_for(self, exchange: Exchange, loop: Loop | None, ticket: object) -> None:
        if self.queue is None:
            self.queue = []
        self.queue.append(ticket)
        self.locks.wait_for(self, exchange, loop)

    def _leave(self, exchange: Exchange, loop: Loop | None, ticket: object) -> None:
        if self.queue and ticket in self.queue:
            self.queue.remove(ticket)
            self.locks.tell()  # who is first now may go on
        self.locks.wait_over(self, exchange, loop)

    def _late(self, timeout: float, loop: Loop | None = None) -> LockTimeout:
        holder = f"locked by {self.owner}" if self.owner else "free only now"
        more = ON_LOOP if loop is not None else ""
        return LockTimeout(f"{self.name} was not to be had in {timeout:g} s: it is {holder}{more}")

    def _wake(self) -> None:
        with self.locks.changed:
            self.locks.changed.notify_all()


class Held:
    """`with transaction(…):` or `async with`. `begin` and `end` run with the lock."""

    __slots__ = ("_ask", "_ends", "_timeout")

    def __init__(
        self,
        locks: Callable[[], list[tuple[Lock, Callable[[], Any], Callable[[], Any]]]],
        exchange: Callable[[], Exchange],
        timeout: float,
    ) -> None:
        self._ask = (locks, exchange)
        self._timeout = timeout

        self._ends: list[Callable[[], Any]] = []

    def __enter__(self) -> None:
        locks, exchange = self._ask[0](), self._ask[1]()
        try:
            for lock, begin, end in locks:
                lock.acquire(exchange, self._timeout)
                self._ends.append(end)
                begin()
        except BaseException:
            self._leave()
            raise

    async def __aenter__(self) -> None:
        locks, exchange = self._ask[0](), self._ask[1]()
        try:
            for lock, begin, end in locks:
                await lock.acquire_async(exchange, self._timeout)
                self._ends.append(end)
                begin()
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        try:
            while self._ends:
                self._ends.pop()()
        finally:
            if self._ends:
                self._leave()

    def __exit__(self, *exc: object) -> None:
        self._leave()

    async def __aexit__(self, *exc: object) -> None:
        self._leave()


_native.store_setup(running_loop=asyncio._get_running_loop)
