"""The process as an application expects it: folder, path, arguments, signals, end.

Before and after the import of the applications (boot). Not here: the link.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from guado.worker.errors import BootFailed
from guado.worker.handshake import Hello

if TYPE_CHECKING:
    from guado import _core

ERROR = 3  # a level of Link.log

# Non-daemon threads of the application may keep a worker that has served this long.
THREADS_TIMEOUT = 2.5

# What is kept for atexit of the time that the host gives a worker for its end.
ATEXIT_SHARE = 0.2
ATEXIT_MOST = 1.0

# The host decides when a worker ends: a terminal's Ctrl-C and a container's stop reach
# the whole process group, and would cut requests that the host is waiting for.
DEAF_TO = (signal.SIGINT, signal.SIGTERM)


def prepare(hello: Hello) -> None:
    """Before the import: what ``python -m`` in the application's folder would see."""
    try:
        os.chdir(hello.dir)
    except OSError as error:
        raise BootFailed(
            "environment", "", f"the folder {hello.dir!r} cannot be entered: {error.strerror}"
        ) from error
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    sys.path.insert(0, hello.dir)
    sys.argv = ["guado"]
    if not faulthandler.is_enabled():
        faulthandler.enable()
    _ignore_signals()


def _ignore_signals() -> None:
    before = {number: signal.getsignal(number) for number in DEAF_TO}
    masks = threading.local()
    for number in DEAF_TO:
        signal.signal(number, _ignore)

    # A child that the application forked obeys: Process.terminate() sends SIGTERM. It may
    # come before the child has its old handlers back, so it is held up until then.
    def hold() -> None:
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def obey() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is _ignore:
                signal.signal(number, handler)
        let_go()

    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=obey)


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler and not SIG_IGN, which programs started by the application would inherit."""


def after_import() -> None:
    """What is only done where the application did not."""
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        faulthandler.register(signal.SIGUSR1, all_threads=True)


def check_threading() -> None:
    """Refuses threads that are not the system's."""
    for name, check in _PATCHERS.items():
        patcher = sys.modules.get(name)
        if patcher is not None and check(patcher):
            package = name.partition(".")[0]
            raise BootFailed(
                "environment",
                "",
                f"{package} has replaced Python's threading",
                hint=f"guado serves with threads of the system: remove {package}'s monkey "
                "patching from the application, or serve it with its own server behind an "
                "upstream mount",
            )


_PATCHERS: dict[str, Any] = {
    "gevent.monkey": lambda m: m.is_module_patched("threading"),
    "eventlet.patcher": lambda m: m.is_monkey_patched("thread"),
}


def await_drained(link: _core.Link, ending: Ending) -> None:
    """Returns when nothing is under way any more, at the latest when the grace of DRAIN
    is over: what still runs then is given up, or one request would keep lifespan
    shutdown and atexit from running."""
    while True:
        left = link.draining()
        # False: a signal, whose handler has run by now, DRAIN or the end of the time.
        if link.wait_drained(-1 if left is None else max(0, left)):
            break
        left = link.draining()
        if left is not None:
            ending.begin()
        if left is not None and left <= 0:
            link.log(ERROR, "stopping: requests still run and are given up")
            break
    ending.begin()


class Ending:
    """Lets atexit run before the host kills the worker, whatever does not end.

    The interpreter joins threads first and runs atexit afterwards, and both come behind
    lifespan shutdown: without this, one thread or one shutdown that never ends would keep
    every handler from running.
    """

    def __init__(self, link: _core.Link, exit_timeout: float) -> None:
        self._link = link
        self._exit_timeout = exit_timeout
        self._begun = False
        self._served = threading.Event()
        self._ended = threading.Event()

    def begin(self) -> None:
        """DRAIN has come: from now on the host counts."""
        if self._begun:
            return
        self._begun = True
        if (phases := sys.modules.get("guado._phases")) is not None:
            phases.end()  # a call under way would keep the worker
        left = (self._link.draining() or 0) / 1000 + self._exit_timeout
        reserve = min(ATEXIT_MOST, self._exit_timeout * ATEXIT_SHARE)
        atexit.register(self._ended.set)
        threading.Thread(
            target=self._watch,
            args=(time.monotonic() + left - reserve,),
            name="guado-exit",
            daemon=True,
        ).start()

    def served(self) -> None:
        """Serving and lifespan shutdown are over; the interpreter joins threads next."""
        self.begin()
        self._served.set()

    def _watch(self, end: float) -> None:
        if self._served.wait(end - time.monotonic()):
            end = min(end, time.monotonic() + THREADS_TIMEOUT)
        if self._ended.wait(max(0.0, end - time.monotonic())):
            return
        names = [
            thread.name
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        if not self._served.is_set():
            names.insert(0, "the main thread")
        print(f"guado: not waiting for {', '.join(names)}", file=sys.stderr, flush=True)
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(0)
