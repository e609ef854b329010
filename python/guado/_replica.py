"""This worker's copy of the global store, which the host keeps true.

Before: globalstore reads it. After: guado._core, whose reader files updates without the GIL;
they are applied here, before whatever is read. The twin of protocol/link.md, section 15. Not
here: writes, which go to the host.
"""

from __future__ import annotations

import collections
import datetime
import logging
import struct
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from guado import _records

if TYPE_CHECKING:
    from guado import _core

_HEAD = struct.Struct("<QB7x")
SNAPSHOT = 1

# Values that nobody can change: they are decoded once.
_FIRM = (
    str,
    int,
    float,
    bool,
    type(None),
    bytes,
    Decimal,
    datetime.datetime,
    datetime.date,
    datetime.time,
)

# Changes that may wait for those who listen. When more come, one stands for all.
MOST_CHANGES = 10_000

_log = logging.getLogger("guado")
_nothing: Any = object()

Node = dict[str, Any]  # of Node and Leaf
Path = tuple[str, ...]


class Leaf:
    """A value as bytes, and decoded where that can be kept."""

    __slots__ = ("data", "firm")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.firm: Any = _nothing

    def value(self) -> Any:
        if self.firm is not _nothing:
            return self.firm
        from guado import _values

        value = _values.decode(self.data)
        if type(value) in _FIRM:
            self.firm = value
        return value


class Changed(NamedTuple):
    """A change of the global store. An empty path: anything may have changed."""

    path: Path
    value: Any  # what is there now; of a dict that was set: {}, its keys follow
    gone: bool


Listener = tuple[Path, Callable[[Changed], Any]]


class Replica:
    """The global store as this process knows it."""

    def __init__(self, link: _core.Link) -> None:
        self.link = link
        self.lock = threading.Lock()  # guards all below
        self.root: Node = {}
        self.number = 0  # of the last update
        self.updates: list[bytes] = []  # taken and not applied: an interrupt may come between
        self.listeners: list[Listener] = []
        self.changes: Changes | None = None
        threading.Thread(target=self.keep, name="guado-global", daemon=True).start()

    def keep(self) -> None:
        """The thread that takes updates where nobody reads the store."""
        try:
            while True:
                self.link.updates_wait()
                with self.lock:
                    self.refresh()
        except OSError:  # the link is closed: the host is gone, or a test ends
            return

    # Below, the lock is held.

    def refresh(self) -> None:
        """Applies what has come. What came before the request that runs has come."""
        self.link.updates(self.updates)
        while self.updates:
            self._apply(self.updates[0])
            del self.updates[0]

    def _apply(self, update: bytes) -> None:
        """Once more where an interrupt came: the second time changes nothing."""
        number, kind = _HEAD.unpack_from(update)
        records = _records.read(update[_HEAD.size :])
        if kind == SNAPSHOT:
            root: Node = {}
            for record in records:
                _put(root, record)
            self.root = root
        elif number > self.number:
            if number != self.number + 1:
                raise RuntimeError(f"update {number} of the global store came after {self.number}")
            changed = []
            for record in records:
                if not record.path:
                    self.root = {}
                else:
                    _put(self.root, record)
                changed.append(record)
            if self.changes is not None:
                self.changes.add(changed)
        self.number = number

    def find(self, path: Path) -> Any:
        """The leaf or node at a path. KeyError."""
        node: Any = self.root
        for key in path:
            if type(node) is not dict:
                raise KeyError(path)
            node = node[key]
        return node

    def get(self, path: Path) -> Any:
        """The value at a path: the caller's own. KeyError."""
        with self.lock:
            self.refresh()
            return value_of(self.find(path))

    def listen(self, path: Path, function: Callable[[Changed], Any]) -> Callable[[], None]:
        entry = (path, function)
        with self.lock:
            self.refresh()
            self.listeners.append(entry)
            if self.changes is None:
                self.changes = Changes(self.listeners)
        self.link.updates_watch()

        def end() -> None:
            with self.lock:
                if entry in self.listeners:
                    self.listeners.remove(entry)

        return end


def value_of(node: Any) -> Any:
    if type(node) is Leaf:
        return node.value()
    return {key: value_of(below) for key, below in node.items()}


def _put(root: Node, record: _records.Record) -> None:
    node = root
    for key in record.path[:-1]:
        below = node.get(key)
        if type(below) is not dict:
            if record.op == _records.DELETE:
                return  # it is gone already
            below = node[key] = {}
        node = below
    key = record.path[-1]
    if record.op == _records.SET:
        node[key] = Leaf(record.items[0])
    elif record.op == _records.CLEAR:
        node[key] = {}
    elif record.op == _records.DELETE:
        node.pop(key, None)
    else:
        raise ValueError(f"record {record.op} in an update of the global store")


class Changes:
    """Tells listeners of changes, in order, on a thread of its own."""

    def __init__(self, listeners: list[Listener]) -> None:
        self.listeners = listeners
        self.waiting: collections.deque[Changed] = collections.deque()
        self.news = threading.Condition()  # guards waiting
        threading.Thread(target=self.run, name="guado-global-changes", daemon=True).start()

    def add(self, records: list[_records.Record]) -> None:
        with self.news:
            if len(self.waiting) + len(records) > MOST_CHANGES:
                self.waiting.clear()
                self.waiting.append(Changed((), None, False))
            else:
                self.waiting.extend(map(_changed, records))
            self.news.notify()

    def run(self) -> None:
        while True:
            with self.news:
                while not self.waiting:
                    self.news.wait()
                change = self.waiting.popleft()
            for path, function in list(self.listeners):
                short = min(len(path), len(change.path))
                if path[:short] == change.path[:short]:
                    try:
                        function(change)
                    except Exception:
                        _log.exception("%r failed, which listens to the global store", function)


def _changed(record: _records.Record) -> Changed:
    if record.op == _records.SET:
        return Changed(record.path, Leaf(record.items[0]).value(), False)
    gone = record.op == _records.DELETE
    return Changed(record.path, None if gone else {}, gone)


_replica: Replica | None = None


def start(link: _core.Link) -> None:
    """At the boot of a worker, before its applications are imported."""
    global _replica
    _replica = Replica(link)


def of(link: _core.Link) -> Replica:
    replica = _replica
    if replica is None or replica.link is not link:
        start(link)
        replica = _replica
        assert replica is not None
    return replica
