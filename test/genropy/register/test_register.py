"""The register on guado's stores, held against GenroPy's own."""

from __future__ import annotations

import contextlib
import os
import types
import unittest
from typing import Any

import driver
from gnr.web.daemon import siteregister
from guado.adapters.genropy._backing import KINDS, Memory
from guado.adapters.genropy._compare import VOLATILE, differences
from guado.adapters.genropy._items import Item
from guado.adapters.genropy._legacy import InProcess
from guado.adapters.genropy._register import SiteRegister
from guado.adapters.genropy._shadow import Found, Shadow

SEED = int(os.environ.get("SEED", "20260203"))
CALLS = 3000


def legacy(clock: driver.Clock) -> InProcess:
    """GenroPy's own, as its daemon makes it, with the time of a test."""
    siteregister.datetime = types.SimpleNamespace(now=clock.now)
    siteregister.time = types.SimpleNamespace(time=clock.time)
    server = types.SimpleNamespace(
        daemon=types.SimpleNamespace(register=lambda *_: None), gnr_daemon_uri=None
    )
    return InProcess(siteregister.SiteRegister(server, sitename="test"))


def run(
    seed: int, calls: int, record: Any = None, ours: Any = None
) -> tuple[Shadow, list[Found], driver.Driver]:
    clock = driver.Clock()
    found: list[Found] = []
    ours = ours or SiteRegister(Memory(), "test", clock.now, clock.time)
    shadow = Shadow(
        legacy(clock), ours, found.append, VOLATILE - {"start_ts", "last_refresh_ts"}, record
    )
    drive = driver.Driver(seed, clock)
    for call in drive.calls(calls):
        with contextlib.suppress(Exception):  # an answer, too
            shadow.ask(call)
    return shadow, found, drive


class TheSameAnswers(unittest.TestCase):
    def test_every_call_is_answered_as_genropys_own_register_answers_it(self) -> None:
        shadow, found, drive = run(SEED, CALLS)
        print(f"seed {SEED}: {shadow.calls} calls, {shadow.differences} differences; {drive.made}")
        self.assertEqual([str(f) for f in found[:5]], [])
        self.assertEqual(set(drive.made), set(driver.GROUPS))

    def test_what_the_stores_hold_is_what_lives(self) -> None:
        clock = driver.Clock()
        ours = SiteRegister(Memory(), "test", clock.now, clock.time)
        run(SEED + 1, 2000, ours=ours)
        seen = 0
        for kind in KINDS:
            for id, item in ours._site.get_register(kind)._known():
                kept = Item.load(item.store)
                for name in ("fields", "data"):
                    there = [
                        str(d)
                        for d in differences(getattr(item, name), getattr(kept, name))
                        if d.path != "data"  # that it was asked for with its data is forgotten
                        and ".value" not in d.path  # a Bag that waits, and was changed since
                    ]
                    self.assertEqual(there, [], f"{name} of {kind} {id}")
                seen += 1
        self.assertGreater(seen, 20)


if __name__ == "__main__":
    unittest.main()
