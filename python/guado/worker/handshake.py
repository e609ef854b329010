"""HELLO and what answers it: READY or FAILED (protocol/link.md, section 4).

Before: the host, over guado._core. After: boot, which acts on it. Not here: importing
the applications (loader).
"""

from __future__ import annotations

import contextvars
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import guado
from guado import _core
from guado.worker.errors import BootFailed


@dataclass
class App:
    """One application of this worker. `callable` and the final `kind` come from loader."""

    index: int
    name: str
    target: str
    kind: str = "auto"
    factory: bool = False
    lifespan: str = "auto"
    file: bool = False  # it is described by a configuration file, not by options
    register: str = ""  # what it kept its items in before the host did
    pages: str = ""  # ours: it runs the turns of this application's pages (worker/pages.py)
    callable: Callable[..., Any] | None = None

    def spell(self, key: str, value: str = "") -> str:
        """How the user sets `key`: as an option of the command, or in the file."""
        if not self.file:
            return f"--{key} {value}".rstrip()
        if key == "factory":
            return "factory = true"
        return f'{key} = "{value}"' if value else key


@dataclass
class Hello:
    """What the host told this worker to be."""

    link: _core.Link
    version: str
    slot: str
    instance: str
    apps: list[App]
    dir: str
    threads: int
    concurrency: int
    multiprocess: bool
    dev: bool
    request_credit: int
    response_credit: int
    file_credit: int
    exit_timeout: float  # seconds for the end, once the grace of DRAIN is over
    phase: int  # 0, or what is on of users, connections and pages
    state_bytes: int  # what all stores may cost; 0: the default
    entering: bool  # it asks the host before it is ready (_phases)
    executors: dict[str, bool]  # name: whether its tasks run in this process (bypass)
    imported: float = 0.0  # seconds that the import of the applications took
    # The base of every request's context: boot copies it after import.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def ready(self, loop: str = "") -> None:
        """Tells the host that requests may come; `loop` names the event loop, if any."""
        wsgi = any(app.kind == "wsgi" for app in self.apps)
        answer = {
            "protocol": _core.PROTOCOL,
            "version": guado.__version__,
            "pid": os.getpid(),
            "python": platform.python_version(),
            "executable": sys.executable,
            "apps": [{"name": app.name, "kind": app.kind} for app in self.apps],
            "loop": loop,
            "threads": self.threads if wsgi else 0,
            "import_ms": round(self.imported * 1000),
        }
        self.link.ready(json.dumps(answer).encode())


def receive(link: _core.Link, timeout: float) -> Hello:
    """Waits for HELLO. Raises BootFailed when it is not one that this worker speaks."""
    try:
        text = link.hello(int(timeout * 1000))
    except TimeoutError as error:
        raise BootFailed("handshake", "", f"no HELLO from the host in {timeout:g} s") from error
    try:
        hello = json.loads(text)
        theirs = hello["protocol"]
        if theirs != _core.PROTOCOL:
            raise _other_protocol(theirs, str(hello.get("version", "unknown")))
        return _hello(link, hello)
    except (ValueError, KeyError, TypeError) as error:
        raise BootFailed("handshake", "", f"the host's HELLO cannot be read: {error!r}") from error


def _other_protocol(theirs: object, version: str) -> BootFailed:
    return BootFailed(
        "handshake",
        "",
        f"the host (guado {version}) speaks protocol {theirs}, the worker "
        f"(guado {guado.__version__}) protocol {_core.PROTOCOL}",
        hint="host and worker package must come from the same guado",
    )


def _hello(link: _core.Link, h: dict[str, Any]) -> Hello:
    apps = [
        App(
            index=i,
            name=a["name"],
            target=a.get("target") or "",
            kind=a.get("kind") or "auto",
            factory=bool(a.get("factory", False)),
            lifespan=a.get("lifespan") or "auto",
            register=a.get("register") or "",
            file=bool(a.get("file", False)),
            pages=a.get("pages") or "",
        )
        for i, a in enumerate(h["apps"])
    ]
    return Hello(
        link=link,
        version=guado.__version__,
        slot=h["slot"],
        instance=h["instance"],
        apps=apps,
        dir=h["dir"],
        threads=max(1, int(h["threads"])),
        concurrency=int(h["concurrency"]),
        multiprocess=bool(h["multiprocess"]),
        dev=bool(h["dev"]),
        request_credit=int(h["request_credit"]),
        response_credit=int(h["response_credit"]),
        file_credit=int(h["file_credit"]),
        exit_timeout=int(h["exit_timeout"]) / 1000,
        phase=int(h.get("phase") or 0),
        entering=bool(h.get("entering", False)),
        state_bytes=int(h.get("state_bytes") or 0),
        executors={e["name"]: bool(e.get("bypass")) for e in h.get("executors") or ()},
    )


def failed(link: _core.Link, failure: BootFailed) -> None:
    """Tells the host why this worker ends."""
    answer = {
        "stage": failure.stage,
        "app": failure.app,
        "message": failure.message,
        "traceback": _bounded(failure.traceback),
        "hint": failure.hint,
        "protocol": _core.PROTOCOL,
        "version": guado.__version__,
    }
    link.failed(json.dumps(answer).encode())


def _bounded(text: str, most: int = 32_000) -> str:
    """Keeps the end, where the reason stands: a recursion's traceback is endless, and
    JSON may need six bytes for a character."""
    return text if len(text) <= most else "…\n" + text[-most:]
