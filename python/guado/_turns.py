"""The turn of a page in the hands of a request: `with page.turn():`.

Before: push.PageHandle. After: _host (turn.take, turn.give), _state, which commits what was
written in it. Not here: turns of handlers, which the host begins by itself.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from guado import _host, _json, _request, _state
from guado.errors import NoRequest

if TYPE_CHECKING:
    from guado._state import Running

_numbers = itertools.count(1)


class PageTurn:
    """Enter it once."""

    __slots__ = ("_number", "_page", "_reply", "_running", "_timeout")

    def __init__(self, page: str, timeout: float) -> None:
        self._page = page.partition("|")[0]
        self._timeout = timeout
        self._number = 0
        self._reply: _host.Reply[None] | None = None
        self._running: Running | None = None

    def _begin(self) -> _host.Reply[None] | None:
        """None: the turn is had already."""
        here = _request.current()
        state = _state.current()
        running = state.running(here) if here else None
        if running is None:
            raise NoRequest("a turn is for a request or a handler that runs", "no_request")
        self._running = running
        mine = isinstance(here, _request.Turn) and here.alone and here.page == self._page
        if mine or running.turns.get(self._page):
            return None
        self._number = next(_numbers)
        reply: _host.Reply[None] = _host.Reply()
        self._reply = reply
        data = b'{"page":%s,"turn":%d}' % (_json.encode(self._page), self._number)
        _host.ask("turn.take", data, reply, _host.nothing, round(self._timeout * 1000), True)
        return reply

    def _enter(self) -> None:
        running = self._running
        assert running is not None
        running.turns[self._page] = running.turns.get(self._page, 0) + 1
        running.exchange.read_only = False

    def _give(self) -> None:
        if self._number:
            reply: _host.Reply[None] = _host.Reply()
            data = b'{"turn":%d}' % self._number
            self._number = 0
            _host.ask("turn.give", data, reply, _host.nothing)

    def _leave(self) -> None:
        running = self._running
        assert running is not None
        left = running.turns.pop(self._page) - 1
        if left:
            running.turns[self._page] = left
        try:
            if not running.over:
                running.flush()
        finally:
            running.exchange.read_only = running.headed and not running.turns
            self._give()

    def __enter__(self) -> None:
        reply = self._begin()
        if reply is not None:
            try:
                reply.result()
            except BaseException:
                reply.cancel()
                self._give()  # it may have come at this very moment
                raise
        self._enter()

    def __exit__(self, *exc: object) -> None:
        self._leave()

    async def __aenter__(self) -> None:
        reply = self._begin()
        if reply is not None:
            try:
                await reply
            except BaseException:
                reply.cancel()
                self._give()
                raise
        self._enter()

    async def __aexit__(self, *exc: object) -> None:
        self._leave()
