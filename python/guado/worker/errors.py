"""Why a worker could not boot, and tracebacks as a user wants to read them.

Before: boot, loader and lifespan raise BootFailed. After: handshake tells the host.
Not here: failures of a request, which wsgi and asgi log.
"""

from __future__ import annotations

import importlib
import os
import traceback

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IMPORTLIB = os.path.abspath(importlib.__file__)


class BootFailed(Exception):
    """The worker cannot serve: told to the host as FAILED (protocol/link.md, section 4)."""

    def __init__(
        self, stage: str, app: str, message: str, traceback: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.app = app
        self.message = message
        self.traceback = traceback
        self.hint = hint


def format_exception(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of importlib and of guado."""
    report = traceback.TracebackException.from_exception(error)
    _shorten(report, set())
    return "".join(report.format())


def blame(error: BaseException, where: str) -> None:
    """Says in whose code an exception was raised, where that is none of the application that
    serves requests. Who was blamed first stays it."""
    if not hasattr(error, _BLAMED):
        setattr(error, _BLAMED, where)


def head_line(error: BaseException, otherwise: str, interrupted: bool) -> str:
    """What the log says before the traceback. `otherwise`: who is to blame if nobody is."""
    where = getattr(error, _BLAMED, None)
    if interrupted:
        return f"{where}: interrupted at its deadline" if where else "interrupted at its deadline"
    return f"Exception in {where or otherwise}"


_BLAMED = "__guado_blamed__"


def last_line(error: BaseException) -> str:
    """What stands last in the traceback: "NameError: name 'x' is not defined"."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _shorten(report: traceback.TracebackException, seen: set[int]) -> None:
    if id(report) in seen:
        return
    seen.add(id(report))
    report.stack[:] = [frame for frame in report.stack if not is_ours(frame.filename)]
    for other in (
        report.__cause__,
        report.__context__,
        *(getattr(report, "exceptions", None) or ()),
    ):
        if other is not None:
            _shorten(other, seen)


def is_ours(filename: str) -> bool:
    """Whether a file is of guado or of the import machinery."""
    # "<string>" is the line that started this process (guado._bootstrap).
    return filename.startswith(("<frozen importlib", _PACKAGE)) or filename in (
        "<string>",
        _IMPORTLIB,
    )
