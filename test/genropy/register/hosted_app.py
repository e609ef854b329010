"""Plays calls to the register of a real worker and to GenroPy's own, and says where answers
differ. What the one in memory knew is put into a file before the worker is killed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import pickle
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import gnr.web

GENUINE = pathlib.Path(gnr.web.__path__[0]) / "daemon" / "siteregister.py"
spec = importlib.util.spec_from_file_location("genuine_siteregister", GENUINE)
assert spec is not None
assert spec.loader is not None
genuine = importlib.util.module_from_spec(spec)
sys.modules["genuine_siteregister"] = genuine
spec.loader.exec_module(genuine)

import driver  # noqa: E402
import theirs  # noqa: E402
from guado.adapters.genropy import _hosted, _transfer  # noqa: E402
from guado.adapters.genropy._compare import VOLATILE  # noqa: E402
from guado.adapters.genropy._shadow import Found, Shadow  # noqa: E402

KEPT = pathlib.Path(os.environ["KEPT"])


def ours() -> Any:
    return _hosted.register("drill")


def play(seed: int, calls: int) -> Any:
    """So many calls, in one request."""
    clock = driver.Clock()
    register = ours()
    register._site.now, register._site.clock = clock.now, clock.time
    legacy = theirs.make(genuine, clock)
    _transfer.transfer(register, legacy)
    found: list[Found] = []
    shadow = Shadow(legacy, register, found.append, VOLATILE)
    there = register.call
    drive = driver.Driver(
        seed, clock, lambda kind, id: there("exists", (id,), {"register_name": kind})
    )
    for call in drive.calls(calls):
        with contextlib.suppress(Exception):
            shadow.ask(call)
    KEPT.write_bytes(pickle.dumps(list(_transfer.items(legacy))))
    return {"calls": shadow.calls, "differences": [str(f) for f in found]}


def compare() -> Any:
    """What the register of this worker holds, beside what there was before."""
    kept = pickle.loads(KEPT.read_bytes())
    now = list(_transfer.items(ours()))
    found = _transfer.differences_of(kept, now)
    return {
        "items": len(now),
        # A Bag that waits for a client is as it was when it began to wait.
        "differences": [str(d) for d in found if "datachanges" not in d.path],
    }


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    asked = {k: int(v[0]) for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    answer = play(**asked) if environ["PATH_INFO"] == "/play" else compare()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
