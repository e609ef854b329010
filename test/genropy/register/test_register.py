"""The register on guado's stores, held against GenroPy's own."""

from __future__ import annotations

import contextlib
import os
import pickle
import unittest
from typing import Any

import driver
import theirs
from gnr.web.daemon import siteregister
from guado.adapters.genropy import _transfer
from guado.adapters.genropy._backing import KINDS, Memory
from guado.adapters.genropy._compare import VOLATILE, differences
from guado.adapters.genropy._items import Item
from guado.adapters.genropy._legacy import InProcess
from guado.adapters.genropy._register import SiteRegister
from guado.adapters.genropy._shadow import Call, Found, Shadow

SEED = int(os.environ.get("SEED", "20260203"))
CALLS = 2100


def legacy(clock: driver.Clock) -> InProcess:
    return theirs.make(siteregister, clock)


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
        run(SEED + 1, 700, ours=ours)
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
        self.assertGreater(seen, 10)

    def test_one_answer_that_is_not_the_same_is_found_with_its_path(self) -> None:
        calls: list[Call] = []
        run(SEED + 2, 2100, record=calls.append)
        clock = driver.Clock()
        ours = SiteRegister(Memory(), "test", clock.now, clock.time)
        found: list[Found] = []
        shadow = Shadow(legacy(clock), ours, found.append)
        recorded = pickle.loads(pickle.dumps(calls))  # as it would come out of a file
        self.assertGreaterEqual(len(recorded), 2000)
        for call in recorded:
            with contextlib.suppress(Exception):
                shadow.ask(call)
        self.assertEqual(found, [])
        wrong = next(id for id, f in ours.items(register_name="page") if f["relative_url"])
        page = ours._site.page_register._changing(wrong)
        page.data.setItem("rootenv.workdate", "tomorrow")  # behind the back of both
        read = Call("getItem", ("rootenv",), {}, ("page", wrong, None))
        shadow.ask(read)
        shadow.ask(Call("getItem", ("nothing",), {}, ("page", wrong, None)))
        self.assertEqual([f.difference.path for f in found], ["workdate"])
        self.assertEqual(found[0].call, read)
        self.assertIn("ours 'tomorrow'", str(found[0]))


class ATransfer(unittest.TestCase):
    def test_a_thousand_items_go_to_ours_and_back_and_are_the_same(self) -> None:
        clock = driver.Clock()
        first = legacy(clock)
        drive = driver.Driver(SEED, clock)
        for call in drive.site(pages=750, connections=150, users=100):
            with contextlib.suppress(Exception):
                call.ask(first)
        before = list(_transfer.items(first))
        self.assertGreaterEqual(len(before), 1000)
        ours = SiteRegister(Memory(), "test", clock.now, clock.time)
        ours.new_user("one of before", user_tags="x")
        for source, target in ((first, ours), (ours, legacy(clock))):
            done = _transfer.transfer(source, target)
            self.assertEqual(done, (len(before), [], []))
            self.assertEqual([str(d) for d in _transfer.compare(source, target)][:5], [])
            # What is known beside the items goes on, too.
            again = Shadow(source, target, lambda f: self.fail(str(f)), VOLATILE)
            for call in drive.probes():
                with contextlib.suppress(TypeError):
                    again.ask(call)

    def test_a_difference_is_named(self) -> None:
        clock = driver.Clock()
        first = legacy(clock)
        for call in driver.Driver(SEED, clock).site(pages=4, connections=2, users=2):
            call.ask(first)
        ours = SiteRegister(Memory(), "test", clock.now, clock.time)
        _transfer.transfer(first, ours)
        ours.bag_call("page", driver.page_id(2), None, "setItem", ("rootenv.workdate", None))
        ours.drop_user("user1")
        self.assertEqual([d.path for d in _transfer.compare(first, ours)][:1], ["items"])
        self.assertIn(
            f"page {driver.page_id(2)} data.rootenv.workdate",
            [d.path for d in _transfer.compare(first, ours)],
        )


if __name__ == "__main__":
    unittest.main()
