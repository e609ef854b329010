"""Interrupts requests past their deadline, and says where those are that cannot be.

Before: the host answered 504 and sent INTERRUPT. After: guado._core raises
guado.RequestTimeout in the application, or cancels the task. Not here: replacing the
worker, which the host does in any case.

An exception reaches Python code at its next instruction. A thread that waits in the
system, or in a library, runs none: it is left alone, and where it is goes into the log.
"""

from __future__ import annotations

import faulthandler
import linecache
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from guado import _core, _waits
from guado.worker.errors import is_ours

if TYPE_CHECKING:
    import asyncio

ERROR = 3  # a level of Link.log

# For code that was interrupted to come to its end, before its stack is logged.
PATIENCE = 1.0
LOOK_EVERY = 0.02
# How often the thread takes the GIL at least: that it could is the heartbeat of Python.
BEAT_EVERY = 1.0


def start(link: _core.Link) -> None:
    """Starts the thread that interrupts; it lives as long as the process."""
    _core.dump_signal(link, _dump_signal())
    threading.Thread(target=_run, args=(link,), name="guado-interrupt", daemon=True).start()


def _dump_signal() -> int:
    """A signal that makes faulthandler print all stacks, without the GIL; 0: none is free,
    as on macOS. SIGUSR1 is for people, and may be the application's."""
    free = getattr(signal, "SIGRTMAX", None)
    if free is None or signal.getsignal(free) is not signal.SIG_DFL:
        return 0
    try:
        faulthandler.register(free, file=2, all_threads=True)
    except (OSError, ValueError):  # standard error is closed
        return 0
    return int(free)


def _run(link: _core.Link) -> None:
    waiting: dict[int, float] = {}
    while True:
        try:
            stream = _core.next_interrupt(link, int((LOOK_EVERY if waiting else BEAT_EVERY) * 1000))
        except OSError:
            return  # the link is closed: nobody is served any more
        now = time.monotonic()
        if stream is not None:
            waiting[stream] = now + PATIENCE
        for one, end in list(waiting.items()):
            if not _core.under_way(link, one):
                del waiting[one]
                continue
            thread = _core.interrupt(one)
            if thread:
                _waits.wake(thread)
            if now >= end:
                del waiting[one]
                link.log(ERROR, _stuck(one, thread), one)


def _stuck(stream: int, thread: int) -> str:
    """What is logged of a request that goes on."""
    lines = [
        f"past its deadline by {PATIENCE:g} s and more, the request cannot be interrupted: "
        "the worker is replaced"
    ]
    task = _core.task_of(stream)
    if task is not None:
        lines.append("Task that serves it (most recent call last):")
        lines += _format(_frames_of_task(task))
    names = {t.ident: t.name for t in threading.enumerate()}
    frames = sys._current_frames()
    here = threading.get_ident()
    for ident in sorted(frames, key=lambda ident: ident != thread):
        if ident == here:
            continue
        which = ", which serves it" if ident == thread else ""
        name = names.get(ident, hex(ident))
        lines.append(f"Thread {name}{which} (most recent call last):")
        lines += _format(traceback.walk_stack(frames[ident]), backwards=True)
    return "\n".join(lines)


def _frames_of_task(task: asyncio.Task[Any]) -> Iterator[tuple[FrameType, int]]:
    """What awaits what, from the application to where it waits."""
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            yield frame, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _format(frames: Iterator[tuple[FrameType, int]], backwards: bool = False) -> list[str]:
    found = [(frame.f_code, line) for frame, line in frames]
    lines = []
    for code, number in reversed(found) if backwards else found:
        if is_ours(code.co_filename):
            continue
        lines.append(f'  File "{code.co_filename}", line {number}, in {code.co_name}')
        if text := linecache.getline(code.co_filename, number).strip():
            lines.append(f"    {text}")
    return lines or ["  (no code of the application)"]
