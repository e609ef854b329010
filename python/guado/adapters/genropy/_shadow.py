"""Two registers side by side: one in charge, ours beside it, and every answer compared.

Before: the site's calls, or a recorded run. After: both registers. Not here: what a
difference is (_compare), how calls reach a daemon (_legacy).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from guado.adapters.genropy._compare import UNORDERED, VOLATILE, Difference, differences
from guado.adapters.genropy._legacy import Port

_log = logging.getLogger("guado")

# Calls of which nothing is to be compared: whose answer is another one in each process.
_PRIVATE = frozenset(("pendingProcessCommands", "dump", "load"))


class Call(NamedTuple):
    """A call as it is recorded. `bag`: kind, id and path of the Bag whose method it is."""

    name: str
    args: tuple[Any, ...]
    named: dict[str, Any]
    bag: tuple[str, Any, Any] | None = None

    def __str__(self) -> str:
        at = f"data of {self.bag[0]} {self.bag[1]}." if self.bag else ""
        return f"{at}{self.name}"

    def ask(self, port: Port) -> Any:
        if self.bag is not None:
            return port.bag_call(*self.bag, self.name, self.args, self.named)
        return port.call(self.name, self.args, self.named)


class Found(NamedTuple):
    """An answer that is not the same."""

    number: int  # of the call, from 1
    call: Call
    difference: Difference

    def __str__(self) -> str:
        return f"call {self.number}, {self.call}: {self.difference}"


def _log_it(found: Found) -> None:
    _log.warning("the register in charge and ours differ: %s", found)


class Shadow:
    """A port that asks both under one lock, and answers what the one in charge answered.
    `record` hears each call before it is made."""

    def __init__(
        self,
        in_charge: Port,
        ours: Port,
        found: Callable[[Found], None] = _log_it,
        volatile: frozenset[str] = VOLATILE,
        record: Callable[[Call], None] | None = None,
    ) -> None:
        self._in_charge = in_charge
        self._ours = ours
        self._found = found
        self._volatile = volatile
        self._record = record
        # The call lock: both see all calls in the same order. Guards the two counts.
        self._lock = threading.RLock()
        self.calls = 0
        self.differences = 0

    def call(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return self.ask(Call(name, args, named))

    def bag_call(
        self,
        kind: str,
        id: Any,
        below: Any,
        method: str,
        args: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:
        return self.ask(Call(method, args, named or {}, (kind, id, below)))

    def ask(self, call: Call) -> Any:
        with self._lock:
            self.calls += 1
            if self._record is not None:
                self._record(call)
            theirs = _outcome(call, self._in_charge)
            ours = _outcome(call, self._ours)
            if call.name not in _PRIVATE:
                self._compare(call, theirs, ours)
        if isinstance(theirs, Exception):
            raise theirs
        return theirs

    def _compare(self, call: Call, theirs: Any, ours: Any) -> None:
        if isinstance(theirs, Exception) and isinstance(ours, Exception):
            # The words are everybody's own.
            theirs, ours = type(theirs).__name__, type(ours).__name__
        if call.name in UNORDERED and isinstance(theirs, list) and isinstance(ours, list):
            theirs, ours = sorted(theirs), sorted(ours)
        for difference in differences(theirs, ours, self._volatile):
            self.differences += 1
            self._found(Found(self.calls, call, difference))

    def wait_free(self, timeout: float) -> None:
        """The locks are those of the register in charge, which tells nobody."""
        threading.Event().wait(timeout)


def _outcome(call: Call, port: Port) -> Any:
    try:
        return call.ask(port)
    except Exception as error:
        return error
