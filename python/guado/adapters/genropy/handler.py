"""What GenroPy asks of the master of its daemons, where there is none."""

from __future__ import annotations

from typing import Any

from guado.adapters.genropy.siteregister import GnrDaemonException

__all__ = ["GnrDaemon", "GnrDaemonProxy"]


class NoDaemon:
    """In the place of a daemon's proxy: each call says why it cannot be done."""

    def __enter__(self) -> NoDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to be closed."""

    def ping(self) -> str:
        return "ping"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def refuse(*_: Any, **__: Any) -> Any:
            raise GnrDaemonException(
                f"{name} is a call of GenroPy's daemon, and under guado's phase 4 there is "
                "none: registers are in the worker, programs are guado's (guado programs), SSH "
                "tunnels are opened beside the site"
            )

        return refuse


class GnrDaemonProxy:
    def __init__(self, *_: Any, **__: Any) -> None:
        """Where a daemon would be does not matter."""

    def proxy(self) -> NoDaemon:
        return NoDaemon()


class GnrDaemon:
    def start(self, *_: Any, **__: Any) -> None:
        NoDaemon().start()
