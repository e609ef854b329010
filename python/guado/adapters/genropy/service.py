"""What `gnr web daemon` runs."""

from __future__ import annotations

from typing import Any

from guado.adapters.genropy.handler import GnrDaemon


class DaemonService:
    def __init__(self, *_: Any, **__: Any) -> None:
        """There is nothing to be told."""

    def run(self) -> None:
        GnrDaemon().start()
