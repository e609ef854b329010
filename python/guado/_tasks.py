"""What travels between a worker that submits a task and the process that runs it.

Before: executors on one side. After: worker/executor on the other. Not here: how it
travels. Both sides are code of the application; the host only passes the bytes on.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any


class RemoteTraceback(Exception):
    """The cause of an exception that came from another process: its traceback as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text.rstrip()}"


def dump(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The task as bytes. TypeError for a function that no other process can import."""
    try:
        return pickle.dumps((fn, args, kwargs), pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        name = getattr(fn, "__qualname__", repr(fn))
        if "<lambda>" in name or "<locals>" in name:
            raise TypeError(
                f"{name} cannot be run by another process: define it with def at the top of "
                "a module"
            ) from error
        raise TypeError(f"{name} or its arguments cannot be pickled: {error}") from error


def run(data: bytes) -> bytes:
    """Runs a task and gives what became of it."""
    try:
        fn, args, kwargs = pickle.loads(data)
        outcome = (fn(*args, **kwargs), None, "")
    except Exception as error:
        # From here on, what the caller need not see.
        return _failed(error)
    try:
        return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        name = getattr(fn, "__qualname__", repr(fn))
        failure = TypeError(f"what {name} returned cannot be pickled: {error}")
        return _failed(failure)


def _failed(error: Exception) -> bytes:
    text = "".join(traceback.format_exception(error))
    try:
        data = pickle.dumps((None, error, text), pickle.HIGHEST_PROTOCOL)
        pickle.loads(data)  # many exceptions can be written and not read
    except Exception:
        named = RuntimeError(f"{type(error).__qualname__}: {error}")
        data = pickle.dumps((None, named, text), pickle.HIGHEST_PROTOCOL)
    return data


def load_outcome(data: bytes) -> tuple[Any, BaseException | None]:
    """What :func:`run` gave: a result, or an exception with its traceback as the cause."""
    result, error, text = pickle.loads(data)
    if error is not None:
        error.__cause__ = RemoteTraceback(text)
    return result, error
