"""The turn of a page in the hands of a request: `with page.turn():`.

Before: push.PageHandle. After: _host (turn.take, turn.give), which lets in; _cycles, which
knows of waits in vain; _state, which commits what was written in it. Not here: turns of
handlers, which the host begins by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from guado import _cycles, _host, _json, _request, _state
from guado._cycles import LockTimeout
from guado.errors import HostError, NoRequest, of_code

if TYPE_CHECKING:
    from guado._state import Running

_numbers = itertools.count(1)


class _Late(HostError, LockTimeout):
    """The turn was not free in time."""

    __module__, __qualname__ = "guado", "LockTimeout"  # which it is to people


class PageTurn:
    """Enter it once."""

    __slots__ = ("_has", "_number", "_page", "_reply", "_running", "_timeout", "_turn", "_waits")

    def __init__(self, page: str, timeout: float) -> None:
        self._page = page.partition("|")[0]
        self._timeout = timeout
        self._number = 0
        self._has = False  # the turn's owner is this one's request, by this one
        self._reply: _host.Reply[None] = _host.Reply()
        self._running: Running | None = None
        self._waits: _cycles.Waits | None = None
        self._turn: _cycles.Turn | None = None  # taken; of a handler's own nothing is known

    def _begin(self) -> bool:
        """False: the turn is had already."""
        here = _request.current()
        state = _state.current()
        running = state.running(here) if here else None
        if running is None:
            raise NoRequest("a turn is for a request or a handler that runs", "no_request")
        self._running = running
        self._waits = waits = state.ledger.locks
        mine = isinstance(here, _request.Turn) and here.alone and here.page == self._page
        if mine or running.turns.get(self._page):
            return False
        with waits.changed:
            self._turn = waits.turn(self._page)
        return True

    def _ask(self, loop: _cycles.Loop | None) -> None:
        timeout = _cycles.patience(loop, self._timeout)
        more = _cycles.ON_LOOP if loop is not None else ""

        def error_of(code: str, message: str) -> HostError:
            if code != "deadline":
                return of_code(code, message)
            turn = self._turn
            held = f": {turn.owner} has it" if turn is not None and turn.owner else ""
            return _Late(f"{turn} was not to be had in {timeout:g} s{held}{more}", code)

        self._number = next(_numbers)
        data = b'{"page":%s,"turn":%d}' % (_json.encode(self._page), self._number)
        milliseconds = max(1, round(timeout * 1000))
        _host.ask("turn.take", data, self._reply, _host.nothing, milliseconds, True, error_of)

    def _wait(self, loop: _cycles.Loop | None) -> contextlib.AbstractContextManager[None]:
        assert self._waits is not None
        assert self._turn is not None
        assert self._running is not None
        return self._waits.while_waiting(self._turn, self._running.exchange, loop)

    def _enter(self) -> None:
        running = self._running
        assert running is not None
        running.turns.setdefault(self._page, []).append(self)
        running.exchange.read_only = False

    def _had(self, loop: _cycles.Loop | None) -> None:
        """It has come. Who waits for a lock looks again: that may be in vain now."""
        waits, turn, running = self._waits, self._turn, self._running
        assert waits is not None
        assert turn is not None
        assert running is not None
        with waits.changed:
            turn.owner, turn.loop, self._has = running.exchange, loop, True
            waits.tell()

    def _give(self) -> None:
        waits, turn, number = self._waits, self._turn, self._number
        if not number or waits is None:
            return
        self._number = 0
        if turn is not None and self._has:  # who came in vain leaves the owner known
            with waits.changed:
                turn.owner, turn.loop, self._has = None, None, False
        reply: _host.Reply[None] = _host.Reply()
        _host.ask("turn.give", b'{"turn":%d}' % number, reply, _host.nothing)

    def _not_had(self) -> None:
        """It may have come at this very moment."""
        self._reply.cancel()
        with contextlib.suppress(HostError):  # what went wrong first is what is told
            self._give()

    def give_up(self) -> bool:
        """Its request is over. False: somebody else gives the turn back."""
        had = self._number != 0
        self._give()
        return had

    def _leave(self) -> None:
        running = self._running
        assert running is not None
        entered = running.turns.get(self._page)
        if not entered or self not in entered:
            return  # its request is over, and has given it up
        entered.remove(self)
        if not entered:
            del running.turns[self._page]
        try:
            if not running.over:
                running.flush()
        finally:
            running.exchange.read_only = running.headed and not running.turns
            self._give()

    def __enter__(self) -> None:
        if self._begin():
            loop = asyncio._get_running_loop()
            try:
                with self._wait(loop):
                    self._ask(loop)
                    self._reply.result()
                self._had(loop)
            except BaseException:
                self._not_had()
                raise
        self._enter()

    def __exit__(self, *exc: object) -> None:
        self._leave()

    async def __aenter__(self) -> None:
        if self._begin():
            try:
                with self._wait(None):
                    self._ask(None)
                    await self._reply
                self._had(asyncio.get_running_loop())
            except BaseException:
                self._not_had()
                raise
        self._enter()

    async def __aexit__(self, *exc: object) -> None:
        self._leave()
