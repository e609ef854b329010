"""GenroPy's own register, as its daemon makes it, with the time of a test."""

from __future__ import annotations

import types
from typing import Any

import driver
from guado.adapters.genropy._legacy import InProcess


def make(module: Any, clock: driver.Clock) -> InProcess:
    module.datetime = types.SimpleNamespace(now=clock.now)
    module.time = types.SimpleNamespace(time=clock.time)
    server = types.SimpleNamespace(
        daemon=types.SimpleNamespace(register=lambda *_: None), gnr_daemon_uri=None
    )
    return InProcess(module.SiteRegister(server, sitename="test"))
