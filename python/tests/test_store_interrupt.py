"""A request may be interrupted at its deadline anywhere. Here it is, at each call in the code of
stores in turn: no operation is half, no lock stays locked, and the host has what the worker has.

What is done in C is done in one go, and cannot be interrupted.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import guado
import pytest
from guado.store import Exchange, LockTimeout, Store, transaction
from test_store import Rig, plain

HERE = str(Path(guado.__file__).parent)
FILES = {
    f"{HERE}/{name}.py"
    for name in ("_writes", "_tracked", "_records", "_values", "_ledger", "_locks", "store")
}


TOOL = 3  # of sys.monitoring


class Interrupted(BaseException):
    """As guado.RequestTimeout, which no application catches by accident."""


class At:
    """Interrupts the code of stores where CPython looks whether it is to, at the place number
    `place`: where a function begins, and where a call of anything in C is over. (It also looks
    where a loop goes back, and never between the last line of a `with` and its end.)"""

    def __init__(self, place: int) -> None:
        self.left = place

    def here(self, code: CodeType, what: str) -> None:
        if code.co_filename in FILES:
            self.left -= 1
            if self.left == 0:
                raise Interrupted(f"{what} of {code.co_qualname}")

    if sys.version_info >= (3, 12):

        def __enter__(self) -> At:
            m, e = sys.monitoring, sys.monitoring.events
            m.use_tool_id(TOOL, "interrupts")
            m.register_callback(TOOL, e.PY_START, lambda code, _: self.here(code, "the beginning"))
            m.register_callback(
                TOOL, e.C_RETURN, lambda code, at, call, _: self.here(code, f"{call}, at {at},")
            )
            m.set_events(TOOL, e.PY_START | e.CALL)
            return self

        def __exit__(self, *exc: object) -> None:
            m, e = sys.monitoring, sys.monitoring.events
            m.set_events(TOOL, 0)
            for one in (e.PY_START, e.C_RETURN):
                m.register_callback(TOOL, one, None)
            m.free_tool_id(TOOL)

    else:

        def __enter__(self) -> At:
            sys.setprofile(self.event)
            return self

        def __exit__(self, *exc: object) -> None:
            sys.setprofile(None)

        def event(self, frame: FrameType, event: str, arg: Any) -> None:
            if event in ("call", "c_return"):
                self.here(frame.f_code, f"{event} at line {frame.f_lineno}")


def in_transaction(store: Store) -> None:
    with store.transaction():
        store["a.b"] = store.get("a.b", 0) + 1


def in_two(store: Store) -> None:
    with store.lock(), transaction(store):
        store["list"].append(1)
        store.set("a.b", 3, "why")


# Operations, and what a store of before may be after each of them.
Does = Callable[[Store], Any]
OPERATIONS: dict[str, Does] = {
    "set": lambda s: s.set("a.new.path", {"x": [1, {"y": (2,)}], "z": {1, 2}}, "why"),
    "update of a node": lambda s: s["a"].update({"p": [1, 2], "q": {"r": 1}, "b": 2}),
    "setdefault": lambda s: s.setdefault("n.ew", [1]),
    "pop": lambda s: s.pop("a"),
    "clear": lambda s: s.clear(),
    "clear of a node": lambda s: s["a"].clear(),
    "extend": lambda s: s["list"].extend([7, [8], {"nine": 9}]),
    "insert": lambda s: s["list"].insert(1, {"between": 1}),
    "sort": lambda s: s["list"].sort(key=repr),
    "a slice": lambda s: s["list"].__setitem__(slice(0, 2), [{"new": 1}]),
    "inside of an item": lambda s: s["list"][1]["deep"].append(5),
    "a set": lambda s: s["set"].update({4, 5}),
    "a transaction": in_transaction,
    "two locks": in_two,
}


def filled() -> Rig:
    rig = Rig()
    with rig.ledger.exchange(Exchange("request 0")) as first:
        rig.store["a"] = {"b": 1, "c": {"d": [1]}}
        rig.store["list"] = [3, {"deep": [1]}, 2]
        rig.store["set"] = {1, 2}
        rig.store.on_change("a", lambda change: None)
        rig.commit(first, end=True)
    rig.same()
    return rig


def outcomes(does: Does) -> list[Any]:
    """What there may be after it: all of it or nothing; of a composed one, whole parts."""
    rig = filled()
    nothing = plain(rig.store.root)
    with rig.ledger.exchange(rig.x):
        does(rig.store)
    rig.commit(end=True)
    return [nothing, plain(rig.store.root)]


def usable(rig: Rig) -> None:
    """Others can read, write, lock and commit, in another thread, without having to wait."""
    failures: list[BaseException] = []

    def other() -> None:
        try:
            next_one = Exchange("the next request")
            with rig.ledger.exchange(next_one), rig.store.transaction(timeout=0), rig.store.lock():
                rig.store["next"] = [1]
            rig.commit(next_one, end=True)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "the next request waits for ever"
    assert not failures, failures


@pytest.mark.parametrize("name", OPERATIONS)
def test_wherever_it_is_interrupted_no_operation_is_half(name: str) -> None:
    does = OPERATIONS[name]
    possible = outcomes(does)
    at = 0
    while True:
        at += 1
        rig = filled()
        where = ""
        with rig.ledger.exchange(rig.x):
            try:
                with At(at):
                    does(rig.store)
            except Interrupted as error:
                where = str(error)
        rig.commit(end=True)  # a request that was interrupted commits, too
        if where:
            found = plain(rig.store.root)
            assert name == "two locks" or found in possible, where
        try:
            rig.same()
            usable(rig)
            rig.same()
        except AssertionError as error:
            raise AssertionError(f"interrupted at {where}: {error}") from error
        if not where:
            break
    assert at > 1 or name in ("pop", "clear")


def test_who_is_interrupted_while_waiting_for_a_lock_stands_in_nobodys_way() -> None:
    place = 0
    where = "somewhere"
    while where:
        place, where = place + 1, ""
        rig = filled()
        holder = Exchange("the holder")
        with rig.ledger.exchange(holder):
            held = rig.store.lock()
            held.__enter__()
        with rig.ledger.exchange(rig.x):
            try:
                with At(place), pytest.raises(LockTimeout), rig.store.lock(timeout=0.001):
                    pass
            except Interrupted as error:
                where = str(error)
        rig.commit(end=True)
        with rig.ledger.exchange(holder):
            try:
                held.__exit__()
            except RuntimeError as error:
                raise AssertionError(f"interrupted at {where}: {error}") from error
        rig.commit(holder, end=True)
        try:
            usable(rig)
        except AssertionError as error:
            raise AssertionError(f"interrupted at {where}: {error}") from error
    assert place > 10
