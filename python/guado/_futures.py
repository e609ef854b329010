"""Results to come: futures of concurrent.futures that can also be awaited.

Before: executors, push and events give them out. After: _calls, _http settle them. Not
here: what a result is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from guado import _waits

T = TypeVar("T")

_OVER = ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")  # states of concurrent.futures


class Future(concurrent.futures.Future[T]):
    """A Future of concurrent.futures that can be awaited, too."""

    # Takes back what it stands for; True when it was under way still.
    _forget: Callable[[], bool] | None = None

    # Waits for it in the event loop's thread, which reads the link meanwhile, until the end
    # of the time or a wake-up; does nothing in other threads.
    _read: Callable[[Future[Any], float | None], None] | None = None

    def done(self) -> bool:
        """As in concurrent.futures. The GIL is lock enough for one look."""
        return self._state in _OVER

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self).__await__()

    def result(self, timeout: float | None = None) -> T:
        """As in concurrent.futures; the deadline of the request that waits ends the wait."""
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As in concurrent.futures; the deadline of the request that waits ends the wait."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        if self.done():
            return
        end = None if timeout is None else time.monotonic() + timeout
        if self._read is not None:
            self._read(self, end)
            if self.done():
                return
        with _waits.woken_by(self._wake), self._condition:
            while not self.done():  # it may have been woken for another thread
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._condition.wait(left)

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def cancel(self) -> bool:
        """What waits is never done. What has begun goes on, and nobody hears of it."""
        cancelled = super().cancel()
        forget, self._forget = self._forget, None
        if cancelled and forget is not None and forget():
            self.set_running_or_notify_cancel()  # for wait() and as_completed()
        return cancelled
