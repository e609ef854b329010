"""Guado: one server for Python applications of both generations.

Inside a worker this package comes from the server's binary and needs no installation.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from guado import _core
    from guado.executors import (
        Executor,
        ExecutorError,
        ProcessDied,
        QueueFull,
        Task,
        TaskTimeout,
        UnknownExecutor,
        executor,
    )

__all__ = [
    "Executor",
    "ExecutorError",
    "ProcessDied",
    "QueueFull",
    "RequestTimeout",
    "Task",
    "TaskTimeout",
    "UnknownExecutor",
    "__version__",
    "executor",
]

# Set by a worker at its boot: the link, and of each executor whether it is bypassed.
_worker: tuple[_core.Link, dict[str, bool]] | None = None


class RequestTimeout(BaseException):
    """The deadline of this request has passed, and its client was answered 504.

    A BaseException, as KeyboardInterrupt is: code that handles the errors of its own work
    must not take it for one of them. Raised where the application runs, or waits for the
    request's body or for its client.
    """

    def __str__(self) -> str:
        return super().__str__() or "the request's deadline has passed"


def __getattr__(name: str) -> Any:
    """Loads what an application uses of the package when it does: most use nothing."""
    if name in __all__:
        from guado import executors

        return getattr(executors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
