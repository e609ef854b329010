"""Waits of guado's own in Python that an interrupt must wake.

Before: a thread of the application waits for something of ours. After: worker/interrupt.py,
which has an exception pending in that thread: it is raised as soon as the thread runs again.
Not here: waits in C, which the link wakes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_wakers: dict[int, Callable[[], None]] = {}  # by thread; the GIL guards it


class woken_by:
    """Around a wait of this thread; `waker` makes it return too early."""

    __slots__ = ("before", "here", "waker")

    def __init__(self, waker: Callable[[], None]) -> None:
        self.waker = waker

    def __enter__(self) -> None:
        self.here = threading.get_ident()
        self.before = _wakers.get(self.here)
        _wakers[self.here] = self.waker

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            del _wakers[self.here]
        else:
            _wakers[self.here] = self.before


def wake(thread: int) -> None:
    """Wakes what the thread waits for, if it waits for something of ours."""
    waker = _wakers.get(thread)
    if waker is not None:
        waker()
