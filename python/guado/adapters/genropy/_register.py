"""The register as callers have it: one call at a time, and copies both ways.

Before: siteregister_client, in any thread of the site; _shadow. After: _site. Not here: what
a call means.

A daemon served one call at a time, and pickled what went in and out: code was written
against both. Values that cannot change are not copied.
"""

from __future__ import annotations

import contextvars
import copy
import functools
import pickle
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from gnr.web.gnrwebpage import ClientDataChange

from guado import _values
from guado.adapters.genropy._backing import Backing
from guado.adapters.genropy._site import Site

_OURS = frozenset(("backing", "bag_call", "change", "clock", "forget", "get_register", "settle"))


def copied(value: Any) -> Any:
    """What would come out at the other end of a wire."""
    kind = type(value)
    if kind in _values.PLAIN:
        return value
    if kind is dict:
        return {key: copied(below) for key, below in value.items()}
    if kind is list:
        return [copied(item) for item in value]
    if kind is tuple:
        return tuple(copied(item) for item in value)
    if kind is ClientDataChange:
        change = copy.copy(value)
        change.value, change.attributes = copied(value.value), copied(value.attributes)
        return change
    return pickle.loads(pickle.dumps(value, protocol=4))


class SiteRegister:
    """Every call of GenroPy's, under its own name: `register.pages(user="ann")`. Those of
    one register have its name with them: `register.exists(id, register_name="page")`."""

    def __init__(
        self,
        backing: Backing,
        sitename: str = "",
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Guards all of the registers, and is told of each lock of an item that is given
        # back. Under it a store is written, and the host may be asked.
        self._free = threading.Condition(threading.RLock())
        self._site = Site(backing, sitename, now, clock)
        self._site.settle()

    def call(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        args, named = copied(args), copied(named)
        return self._let_in(lambda: self._function(name, named)(*args, **named), name)

    def _let_in(self, call: Callable[[], Any], name: str = "") -> Any:
        """Makes a call, alone. A site may write when its answer has left: then that is
        nobody's write in particular, and kept as soon as it can be."""
        if self._site.backing.late():
            return contextvars.Context().run(self._alone, call, name)
        return self._alone(call, name)

    def _alone(self, call: Callable[[], Any], name: str) -> Any:
        with self._free:
            try:
                return copied(call())
            finally:
                self._site.settle()
                if name == "unlock_item":
                    self._free.notify_all()

    def bag_call(
        self,
        kind: str,
        id: Any,
        below: Any,
        method: str,
        args: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:
        """A method of the Bag of an item."""
        args, named = copied(args), copied(named or {})
        return self._let_in(lambda: self._site.bag_call(kind, id, below, method, args, named))

    def held(self) -> threading.Condition:
        """Within it, no other thread is let in."""
        return self._free

    def wait_free(self, timeout: float) -> None:
        """Until some item is unlocked, or the time is over."""
        with self._free:
            self._free.wait(timeout)

    def _function(self, name: str, named: dict[str, Any]) -> Any:
        if not name.startswith("_"):
            target: Any = self._site
            if (name in _OURS or not hasattr(target, name)) and named.get("register_name"):
                target = target.get_register(named.pop("register_name"))
            function = getattr(target, name, None)
            if callable(function) and name not in _OURS:
                return function
        raise AttributeError(f"the register has no call {name}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return functools.partial(self._call_by_name, name)

    def _call_by_name(self, name: str, *args: Any, **named: Any) -> Any:
        return self.call(name, args, named)
