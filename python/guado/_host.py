"""Asks the host itself: over the link of a worker, or over the push socket of a program.

Before: push, pages, events. After: _calls (workers, executors), _http (programs, shells).
Not here: what the verbs mean (protocol/link.md, section 12).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import guado
from guado import _calls, _json
from guado._futures import Future
from guado.errors import HostError, NoPage, PhaseError, of_code

if TYPE_CHECKING:
    from guado._calls import Settle

T = TypeVar("T")

# What a handler of a page asks for takes place with the commit of its turn.
EFFECTS = frozenset(
    {"push", "push.wait", "publish", "dbevent", "page.subscribe", "page.unsubscribe", "page.end"}
)

_log = logging.getLogger("guado")


class Instead(Protocol):
    """What stands in the host's place while an application is tested."""

    phase: int

    def start(
        self, verb: str, data: bytes, future: Future[Any], settle: Settle, milliseconds: int = 0
    ) -> None:
        """Answers a verb by `settle`, now or later."""


instead: Instead | None = None  # set by guado.testing


class Reply(Future[T]):
    """What the host will answer. An error that nobody has looked at is logged when the
    reply is forgotten; NoPage now and then, because tabs come and go."""

    _looked = False
    _commit: Callable[[], None] | None = None  # of the turn that asks: without it no answer

    def result(self, timeout: float | None = None) -> T:
        self._look()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._look()
        return super().exception(timeout)

    def __await__(self) -> Generator[Any, None, T]:
        self._look()
        return super().__await__()

    def _look(self) -> None:
        self._looked = True
        commit, self._commit = self._commit, None
        if commit is not None and not self.done():
            commit()

    def __del__(self) -> None:
        error = getattr(self, "_exception", None)
        if error is None or self._looked:
            return
        if isinstance(error, NoPage):
            _gone.tell(error)
        else:
            _log.error(
                "asked of the host, and not done: %s (%s)", error, getattr(error, "code", "")
            )


class _Gone:
    """Tells of pages that are not there, and of nobody who looks: one line a minute."""

    EVERY = 60.0

    def __init__(self) -> None:
        self.next = 0.0
        self.untold = 0

    def tell(self, error: NoPage) -> None:
        """Without a lock, because the collector may call it anywhere: a count may be off."""
        now = time.monotonic()
        if now < self.next:
            self.untold += 1
            return
        self.next, untold, self.untold = now + self.EVERY, self.untold, 0
        more = f"; {untold} more pages since the last such line" if untold else ""
        _log.warning("asked of the host, and not done: %s (no_page)%s", error, more)


_gone = _Gone()


def ask(
    verb: str,
    data: bytes,
    reply: Reply[T],
    convert: Callable[[Any], T],
    milliseconds: int = 0,
    waits: bool = False,
    error_of: Callable[[str, str], HostError] = of_code,
) -> None:
    """Sends `data`, a JSON object, and settles `reply` with what `convert` makes of the
    answer. PhaseError, and HostError where there is no way to a host, are raised at once.
    """

    def settle(future: Future[Any], status: int, code: str, text: bytes) -> None:
        if future.set_running_or_notify_cancel():
            _settle(future, convert, error_of, status, code, text)

    if instead is not None:
        check()
        instead.start(verb, data, reply, settle, milliseconds)
        return
    worker = guado._worker
    if worker is None:
        from guado import _http

        _http.shared().start(verb, data, reply, settle, milliseconds, waits)
        return
    if worker.phase < 3:
        raise PhaseError()
    send = None
    if worker.phase >= 4 and verb in EFFECTS:
        from guado import _state

        if (turn := _state.turn()) is not None:
            send, reply._commit = turn.later, turn.flush
    try:
        _calls.shared().start(_calls.HOST, verb, data, reply, settle, milliseconds, send)
    except _calls.Forked as error:
        raise HostError(str(error), "forked") from None
    except OSError as error:  # the link is closed
        settle(reply, 0, "link_closed", str(error).encode())


def _settle(
    future: Future[Any],
    convert: Callable[[Any], Any],
    error_of: Callable[[str, str], HostError],
    status: int,
    code: str,
    text: bytes,
) -> None:
    if status != 200:
        future.set_exception(error_of(code, text.decode("utf-8", "replace")))
        return
    try:
        result = convert(_json.decode(text))
    except Exception as error:
        future.set_exception(HostError(f"the host's answer cannot be read: {error!r}", "failed"))
        return
    future.set_result(result)


def ask_now(verb: str, data: bytes) -> dict[str, Any]:
    """Waits for the answer. The request's deadline ends the wait."""
    reply: Reply[dict[str, Any]] = Reply()
    ask(verb, data, reply, dict)
    return reply.result()


def nothing(_: Any) -> None:
    """Converts the answer of a verb that has none."""


def check() -> None:
    """PhaseError in a worker whose server is not so far. A request is only known from phase
    3 on: where it is missing before, that is the reason to tell."""
    here = instead or guado._worker
    if here is not None and here.phase < 3:
        raise PhaseError()
