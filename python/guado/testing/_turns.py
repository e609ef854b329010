"""Turns of pages in memory: the code of a real worker, called by the test.

Before: the test (a message), _memory (an event, the end of a page). After: the handlers, by
guado.worker.pages, whose rules these are. Not here: what a test writes.

A turn that a test asks for runs in the test's own thread, coroutines on a loop of their
own; what it raises, the test gets. Events and ends of pages that a turn has caused come
behind it, in order; what *their* handlers raise is kept for the end of the test.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from guado import _declared, _json, events
from guado.errors import PageError
from guado.pages import Page, is_concurrent
from guado.testing._memory import Pushed
from guado.worker import pages

if TYPE_CHECKING:
    from guado.testing._memory import Tab
    from guado.testing._stores import State


class Turns:
    """Runs them. `failures`: of what nobody waited for."""

    def __init__(self) -> None:
        self.state: State | None = None
        self.over: Callable[[Tab], None] = lambda tab: None  # its on_close has run
        self.lock = threading.Lock()  # guards all below
        self.waiting: collections.deque[dict[str, Any]] = collections.deque()
        self.running = 0
        self.failures: list[Exception] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None

    def deliver(self, what: dict[str, Any]) -> None:
        """Behind the turns that run, or now."""
        with self.lock:
            self.waiting.append(what)
        if threading.current_thread() is self.thread:
            assert self.loop is not None
            self.loop.run_in_executor(None, self.drain)  # which waits for this loop
        else:
            self.drain()

    def drain(self) -> None:
        while True:
            with self.lock:
                if self.running or not self.waiting:
                    return
                self.running += 1
                what = self.waiting.popleft()
            try:
                self.delivered(what)
            except Exception as error:
                self.failures.append(error)
            finally:
                with self.lock:
                    self.running -= 1

    def delivered(self, what: dict[str, Any]) -> None:
        do, tab = what["do"], what.pop("tab", None)
        if do == "on":
            self.call(what.pop("app"), what, listens(what["topic"]))
        elif do == "event" and not (tab.cls and hasattr(class_of(tab), "on_event")):
            tab.pushed.append(Pushed({"topic": what["topic"], "data": what["data"]}, False))
        elif do == "close":
            try:
                self.page(tab, **what)
            finally:
                self.over(tab)
        elif not tab.why and tab.opened:
            self.page(tab, **what)

    def run(self, tab: Tab, do: str, **more: Any) -> Any:
        """A turn that the test asks for: what the client gets."""
        with self.lock:
            self.running += 1
        try:
            return self.page(tab, do, **more)
        finally:
            with self.lock:
                self.running -= 1
            self.drain()

    def page(self, tab: Tab, do: str, **more: Any) -> Any:
        cls = class_of(tab) if tab.cls or do != "write" else Page
        turn = {
            "do": do,
            "page": tab.id,
            "class": tab.cls,
            "args": tab.args,
            "opened": tab.opened,
            "user": tab.browser.user,
            "connection": tab.browser.id,
            **more,
        }
        one = _declared.classes.get(tab.cls)
        handler = getattr(cls, pages._handler(do), None)
        if do in ("request", "event", "http") and is_concurrent(handler):
            return self.call(one.app if one else "", turn, is_async(cls))
        with tab.turn:
            return self.call(one.app if one else "", turn, is_async(cls))

    def call(self, app: str, turn: dict[str, Any], on_loop: bool) -> Any:
        context = contextvars.copy_context()
        steps = pages._steps(app, asked(turn))
        exchange = self.state.enter(context, _title(turn)) if self.state else None
        try:
            if on_loop:
                later = pages._await(steps)
                result = context.run(asyncio.run_coroutine_threadsafe, later, self._loop()).result()
            else:
                result = context.run(pages._run, steps)
        finally:
            if self.state and exchange:
                self.state.take(exchange, end=True)
        answer = pages._answer(turn["do"], result)
        return _json.decode(answer) if answer else None

    def _loop(self) -> asyncio.AbstractEventLoop:
        with self.lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                self.thread = threading.Thread(
                    target=self.loop.run_forever, name="guado-testing", daemon=True
                )
                self.thread.start()
            return self.loop

    def close(self) -> None:
        if self.loop is not None and self.thread is not None:
            ending = asyncio.run_coroutine_threadsafe(
                self.loop.shutdown_default_executor(), self.loop
            )
            ending.result()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


def _title(turn: dict[str, Any]) -> str:
    return f"turn {turn['do']} of page {turn.get('page', turn.get('topic'))}"


def asked(turn: dict[str, Any]) -> pages._Turn:
    """A turn as a worker has it from the host."""
    parts = (turn.get("class", ""), "", turn.get("topic", ""), turn.get("why", ""))
    few = [part.encode() for part in parts]
    if turn.get("args"):
        few[1] = _json.encode(turn["args"], "args")
    return pages._Turn(
        turn["do"],
        turn.get("opened", True),
        turn.get("page", ""),
        turn.get("user"),
        turn.get("connection", ""),
        _data(turn.get("data", _nothing)),
        b"".join(pages._LENGTH.pack(len(part)) + part for part in few),
    )


_nothing: Any = object()


def _data(data: Any) -> bytes:
    """As JSON; bytes are that already."""
    if data is _nothing:
        return b""
    return data if isinstance(data, bytes) else _json.encode(data)


def class_of(tab: Tab) -> type[Any]:
    one = _declared.classes.get(tab.cls)
    if one is None:
        raise PageError("no_class", f"there is no page class {tab.cls!r}")
    return one.type


def is_async(cls: type[Any]) -> bool:
    """Whether a class needs a loop."""
    handlers = (getattr(cls, name, None) for name in _declared.HANDLERS)
    return any(inspect.iscoroutinefunction(handler) for handler in handlers)


def listens(topic: str) -> bool:
    """Whether a function that hears the topic needs a loop."""
    heard = (o.function for o in _declared.listeners if events.matches(o.topic, topic))
    return any(inspect.iscoroutinefunction(function) for function in heard)
