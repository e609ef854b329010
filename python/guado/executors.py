"""Functions on other processes: ``guado.executor("cpu").submit(function, argument)``.

Before: an application, in any worker. After: the host, which queues the task for a process
of the executor (worker/executor.py). Not here: that process.

Function, arguments and result are pickled, so the function must be one that can be
imported: defined with ``def`` at the top of a module.
"""

from __future__ import annotations

import concurrent.futures
import difflib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import guado
from guado import _calls, _tasks
from guado._futures import Future

T = TypeVar("T")


class ExecutorError(Exception):
    """A task has no result, though the function did not fail. `code` is the host's word."""

    def __init__(self, message: str, code: str = "call_failed") -> None:
        super().__init__(message)
        self.code = code


class QueueFull(ExecutorError):
    """The executor runs as much as it can, and as much as may wait waits already."""


class TaskTimeout(ExecutorError, TimeoutError):
    """The task's time was over before its function returned."""


class ProcessDied(ExecutorError):
    """The process ended while it ran the task; others are not concerned."""


class UnknownExecutor(ExecutorError, LookupError):
    """No [[executor]] has this name."""


_ERRORS = {
    "queue_full": QueueFull,
    "queue_wait": QueueFull,
    "deadline": TaskTimeout,
    "worker_died": ProcessDied,
    "unknown_executor": UnknownExecutor,
}


class Task(Future[T]):
    """The result to come: a Future of concurrent.futures that can be awaited, too."""

    def cancel(self) -> bool:
        """A task that waits is never run. One that runs goes on, and nobody hears of it."""
        return super().cancel()


class Executor(concurrent.futures.Executor):
    """An executor of the configuration. Made by :func:`executor`; keep it or make it anew."""

    def __init__(self, name: str, timeout: float | None = None) -> None:
        self.name = name
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"guado.executor({self.name!r}, timeout={self.timeout!r})"

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Task[T]:
        """Runs ``fn(*args, **kwargs)`` on a process of the executor.

        What is wrong with the task itself (a function that cannot be imported) is raised at
        once; all else, QueueFull too, by the result.
        """
        data = _tasks.dump(fn, args, kwargs)
        task: Task[T] = Task()
        if _here.bypassed(self.name):
            _here.run(self.name, task, data)
        else:
            milliseconds = _milliseconds(self.timeout)
            _calls.shared().start(_calls.EXECUTE, self.name, data, task, settle, milliseconds)
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Does nothing: the processes are the host's."""


def executor(name: str, *, timeout: float | None = None) -> Executor:
    """The executor of this name. `timeout` is in seconds, for each task that is submitted
    to what this returns, waiting included; None: the configuration's.

    Outside a worker of Guado (tests, scripts) tasks run in a thread of this process.
    """
    known = _here.known
    if known is not None and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise UnknownExecutor(f"there is no [[executor]] {name!r}; {hint}", "unknown_executor")
    return Executor(name, timeout)


def _milliseconds(timeout: float | None) -> int:
    if timeout is None:
        return 0
    if timeout <= 0:
        raise ValueError(f"a timeout must be more than 0 seconds, not {timeout!r}")
    return min(max(1, round(timeout * 1000)), 0xFFFFFFFF)


def settle(task: Future[Any], status: int, code: str, data: bytes) -> None:
    """Gives a task what REPLY says."""
    if not task.set_running_or_notify_cancel():
        return
    if status == 200:
        finish(task, data)
        return
    text = data.decode("utf-8", "replace")
    task.set_exception(_ERRORS.get(code, ExecutorError)(text, code))


def finish(task: Future[Any], data: bytes) -> None:
    """Gives a task what its function returned or raised."""
    try:
        result, error = _tasks.load_outcome(data)
    except BaseException as failure:
        # What was returned cannot be read here: a class that this process does not have.
        task.set_exception(failure)
        return
    if error is not None:
        task.set_exception(error)
    else:
        task.set_result(result)


class _Here:
    """What this process is: a worker with a link, or not."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # guards all below
        self.threads: dict[str, concurrent.futures.ThreadPoolExecutor] = {}

    @property
    def known(self) -> dict[str, bool] | None:
        """Whether each executor is bypassed; None: this is no worker."""
        return guado._worker.executors if guado._worker else None

    def bypassed(self, name: str) -> bool:
        return self.known is None or self.known.get(name, False)

    def run(self, name: str, task: Task[Any], data: bytes) -> None:
        """Runs a task in a thread of this process, by the code that the processes have."""
        with self.lock:
            threads = self.threads.get(name)
            if threads is None:
                threads = concurrent.futures.ThreadPoolExecutor(1, f"guado-{name}")
                self.threads[name] = threads

        def work() -> None:
            if task.set_running_or_notify_cancel():
                finish(task, _tasks.run(data))

        threads.submit(work)


_here = _Here()
