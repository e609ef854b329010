"""Starts the threads that serve the WSGI applications of a worker.

Before: boot has imported the applications and opened the link. After: guado._core
takes requests, calls the applications and sends their answers, all in C. Not here:
anything that runs once per request, except the text of a failure.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import guado
from guado import _core
from guado.worker.errors import format_exception, head_line, last_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from guado.worker.handshake import App, Hello


def start(link: _core.Link, apps: Sequence[App], hello: Hello) -> None:
    """Starts ``hello.threads`` pool threads for the applications of kind wsgi; returns at once."""
    _core.wsgi_start(
        link,
        tuple(app.callable if app.kind == "wsgi" else None for app in apps),
        hello.context,
        fixed_environ(hello.version, hello.threads, hello.multiprocess),
        hello.threads,
        describe,
        enter_thread,
    )


def fixed_environ(version: str, threads: int, multiprocess: bool) -> dict[str, Any]:
    """What is the same in every environ of this process."""
    return {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": f"guado/{version}",
        "wsgi.version": (1, 0),
        "wsgi.multithread": threads > 1,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": _core.FileWrapper,
    }


def enter_thread(number: int) -> None:
    """Makes a thread that C has started look like one of threading's own."""
    threading.current_thread().name = f"guado-wsgi-{number}"
    # What threading.Thread does for the threads it starts: coverage and debuggers.
    trace: Callable[..., Any] | None = threading.gettrace()
    if trace is not None:
        sys.settrace(trace)
    profile: Callable[..., Any] | None = threading.getprofile()
    if profile is not None:
        sys.setprofile(profile)


def describe(error: BaseException) -> tuple[str, str]:
    """One line, and the text for the log, of an exception that left the application."""
    interrupted = isinstance(error, guado.RequestTimeout)
    what = head_line(error, "WSGI application", interrupted)
    return last_line(error), f"{what}\n{format_exception(error).rstrip()}"
