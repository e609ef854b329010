"""Boots a worker: handshake, import of the applications, serving, the end.

Before: the host starts the interpreter with the line in guado._bootstrap. After: wsgi
and asgi serve. Not here: what a request is.

This module is the first that runs, in whatever interpreter the user named: it must load
in old versions too, which it refuses in words.
"""

from __future__ import annotations

import binascii
import importlib
import os
import sys
import sysconfig

OLDEST = (3, 11)

# For the host to say HELLO: it does at once, so that this only ends orphans.
HELLO_TIMEOUT = 30.0

FAILED_EXIT = 3

WARNING = 2  # a level of Link.log


def main() -> None:
    """Runs the worker to its end."""
    spec = os.environ.pop("GUADO_LINK", "")
    os.environ.pop("GUADO_PACKAGE", None)
    reason = unfit() or core_missing() or core_stale()
    if reason is not None:
        from guado.worker import refuse

        refuse.refuse(spec, *reason)
        sys.exit(FAILED_EXIT)

    from guado import _core
    from guado.worker import handshake
    from guado.worker.errors import BootFailed

    link = _core.open(spec)
    try:
        serve(link)
    except BootFailed as failure:
        handshake.failed(link, failure)
        sys.exit(FAILED_EXIT)
    except _core.LinkClosed as error:
        sys.exit(f"guado: {error}")


def unfit() -> tuple[str, str] | None:
    """Why this interpreter cannot run a worker, with a hint; None when it can."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        return (
            "Python {} is too old: guado needs {}.{} or newer".format(version, *OLDEST),
            'name another interpreter with --python, or python = "…" in guado.toml',
        )
    if sys.implementation.name != "cpython":
        return (
            f"{sys.implementation.name} is not supported: guado needs CPython",
            'name another interpreter with --python, or python = "…" in guado.toml',
        )
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return (
            f"the free-threaded build of Python {version} is not supported yet",
            f"name the usual build with --python (python{version[:4]} instead of "
            f"python{version[:4]}t)",
        )
    return None


def core_missing() -> tuple[str, str] | None:
    """Why the C core cannot be loaded: as a rule it was built for another libc."""
    try:
        importlib.import_module("guado._core")
    except ImportError as error:
        return (
            f"the C core of the worker cannot be loaded by {sys.executable}: {error}",
            "the host compiles one that fits when a C compiler and Python.h are installed",
        )
    return None


def core_stale() -> tuple[str, str] | None:
    """Why the C core is another one than this Python code calls; None when it is not."""
    from guado import _core

    expected = stamp(os.path.join(os.path.dirname(os.path.dirname(__file__)), "csrc"))
    if expected is None or getattr(_core, "STAMP", "") == expected:
        return None
    return (
        "the C core of the worker was built of other sources than those beside its Python code",
        "in a development tree run make ext, and build guado again; an installed guado is damaged: "
        "reinstall it",
    )


def stamp(folder: str) -> str | None:
    """What an extension built of the sources in `folder` says of itself; None: there are none.
    The twin of stamp in build_ext.py."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith((".c", ".h")))
    except OSError:
        return None
    crc = 0
    for name in names:
        with open(os.path.join(folder, name), "rb") as source:
            crc = binascii.crc32(name.encode() + source.read(), crc)
    return f"{crc:08x}"


def serve(link: _core.Link) -> None:
    """Everything between the handshake and the end of the last request."""
    import contextvars
    import time

    import guado
    from guado.worker import handshake, loader, process

    hello = handshake.receive(link, HELLO_TIMEOUT)
    process.prepare(hello)
    guado._worker = guado._Worker(link, hello.executors, hello.phase, hello.state_bytes)
    if hello.phase >= 4:
        from guado import _replica, _state
        from guado.adapters.genropy import _seam

        _replica.start(link)
        _state.current()  # for what others write, though nobody here uses a store
        _seam.install()
        if hello.phase >= 6:
            from guado import _verify

            _verify.start()
    elif os.environ.get("GUADO_GENROPY") == "shadow":
        from guado.adapters.genropy import _beside

        _beside.install()
    began = time.monotonic()
    loader.load(hello.apps)
    hello.imported = time.monotonic() - began
    process.check_threading()
    process.after_import()
    if hello.phase >= 3:
        from guado.worker import pages

        pages.prepare(hello)
    elif "guado._declared" in sys.modules:
        from guado import _declared

        if note := _declared.in_vain():
            link.log(WARNING, note)
    come_in(hello)
    hello.context = contextvars.copy_context()
    ending = process.Ending(link, hello.exit_timeout)
    if link.draining() is None:  # else the host stopped while the application was imported
        run(link, hello, ending)
    ending.served()


def come_in(hello: Hello) -> None:
    """Takes over what the applications kept elsewhere in the phase before, when the host says."""
    registers = [app for app in hello.apps if app.register]
    if not (registers or hello.entering):
        return
    from guado import _phases
    from guado.worker.errors import BootFailed, format_exception, last_line

    for app in registers:
        try:
            _phases.add(_phases.plain(app.name, _phases.named(app.register)))
        except Exception as error:
            raise BootFailed(
                "register", app.name, last_line(error), format_exception(error),
                'register = "module:object" names what has items() and replace(items): '
                "guado.register",
            ) from error  # fmt: skip
    if hello.entering and (wrong := _phases.enter()):
        raise BootFailed("register", registers[0].name if registers else "", wrong)


def run(link: _core.Link, hello: Hello, ending: Ending) -> None:
    """Serves until the drain."""
    import guado
    from guado.worker import interrupt, process

    kinds = bytes(_KINDS[app.kind] for app in hello.apps)
    link.serve(kinds, hello.request_credit, hello.response_credit, hello.file_credit)
    if guado._worker is not None:
        guado._worker.serves = True
    if (phases := sys.modules.get("guado._phases")) is not None:
        phases.begin()
    interrupt.start(link)
    if "wsgi" in {app.kind for app in hello.apps}:
        from guado.worker import wsgi

        wsgi.start(link, hello.apps, hello)
    if "asgi" in {app.kind for app in hello.apps}:
        from guado.worker import asgi

        asgi.serve(link, hello.apps, hello, ending)
    else:
        hello.ready()
        process.await_drained(link, ending)


_KINDS = {"wsgi": 1, "asgi": 2}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guado import _core
    from guado.worker.handshake import Hello
    from guado.worker.process import Ending
