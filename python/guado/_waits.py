"""Waits of guado's own in Python that an interrupt must wake.

Before: a thread of the application waits for something of ours. After: worker/interrupt.py,
which has an exception pending in that thread: it is raised as soon as the thread runs again.
Not here: waits in C, which the link wakes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_wakers: dict[int, Callable[[], None]] = {}  # by thread; the GIL guards it


@contextlib.contextmanager
def woken_by(waker: Callable[[], None]) -> Iterator[None]:
    """Around a wait of this thread; `waker` makes it return too early."""
    here = threading.get_ident()
    before = _wakers.get(here)
    _wakers[here] = waker
    try:
        yield
    finally:
        if before is None:
            del _wakers[here]
        else:
            _wakers[here] = before


def wake(thread: int) -> None:
    """Wakes what the thread waits for, if it waits for something of ours."""
    waker = _wakers.get(thread)
    if waker is not None:
        waker()
