"""Stores: the dicts of a page, a connection or a user that survive their worker.

Before: applications. After: _ledger, whose commits carry what was written to the host; what
the host does with it is in protocol/store.md. Not here: which store a request has (pages).

    store["cart.items"].append({"sku": 7, "qty": 1})     # recorded
    store["cart", "a.b"] = Decimal("9.90")               # a key with a dot: a tuple
    with store.transaction():                            # nobody else reads or writes it
        store["stock"] = store["stock"] - 1

The *store* is what survives; objects are made anew out of it. A container that is put into
a store is copied: change the one that you read from the store, not the one that you put in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from guado import _ledger, _records, _values
from guado._changes import Change, Changes, Share
from guado._ledger import (
    Batch,
    Exchange,
    Ledger,
    Owner,
    ReadOnly,
    StoreError,
    StoreFull,
    StoreGone,
    Taken,
)
from guado._locks import Deadlock, Held, LockTimeout
from guado._native import HeldBase, Slot, store_setup
from guado._tracked import TrackedDict, TrackedList, adopt
from guado._values import MISSING, Pickled
from guado._writes import ENDED, Writes, Written

__all__ = [
    "Batch",
    "Change",
    "Changes",
    "Deadlock",
    "Exchange",
    "Ledger",
    "LockTimeout",
    "Owner",
    "ReadOnly",
    "Share",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreGone",
    "Taken",
    "Written",
    "transaction",
]

PAGE, CONNECTION, USER = 1, 2, 3

PAGE_LIMIT = 1 << 20
MOST_NOTE = 4 << 10  # bytes of reason and attributes of a change
PATIENCE = 30.0

Path = str | Sequence[str]
_nothing: Any = object()


class Store(Writes):
    """The store of one page, connection or user. `name` tells people whose it is. `pickles`:
    objects of other types are kept, too, by pickle."""

    __slots__ = ("__weakref__",)
    changes: Changes

    def __init__(
        self,
        ledger: Ledger,
        owner: Owner,
        name: str,
        limit: int = PAGE_LIMIT,
        pickles: bool = False,
        patience: float = PATIENCE,
        kind: int = PAGE,
        id: str = "",
    ) -> None:
        super().__init__(ledger, owner, name, limit, pickles, patience)
        self.kind, self.id = kind, id
        self.changes = Changes(self)

    def __repr__(self) -> str:
        return f"<store of {self.name}>"

    @property
    def root(self) -> TrackedDict:
        """All of it, as a dict. Its keys are keys: a dot in one means nothing."""
        return self._root

    # Paths.

    def _find(self, path: Path) -> Any:
        self._enter()
        value: Any = self._root
        for key in _records.path_of(path):
            if not isinstance(value, dict):
                raise KeyError(path)
            try:
                value = value[key]
            except KeyError:
                raise KeyError(path) from None
        return value

    def _holder(self, keys: tuple[str, ...]) -> TrackedDict:
        node, at = self._deepest(keys)
        if at < len(keys) - 1:
            raise KeyError(keys)
        return node

    def set(
        self,
        path: Path,
        value: Any,
        reason: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """`store[path] = value`; dicts on the way are made. Subscribers hear the reason, and so do
        clients that are told of the path, with the attributes; they are not kept."""
        if reason is None and attributes is None:
            self[path] = value
        else:
            self._set(path, value, reason, attributes)

    def _set(
        self,
        path: Path,
        value: Any,
        reason: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        keys = _records.path_of(path)
        self._enter(write=True)
        said = []
        if reason is not None:
            said.append(b'"reason":' + _values.encode(reason))
        if attributes is not None:
            said.append(b'"attributes":' + _values.encode(attributes))
        note = b",".join(said)
        if len(note) > MOST_NOTE:
            raise ValueError(f"reason and attributes have {len(note)} bytes of {MOST_NOTE}")
        self._put_at(keys, value, reason=reason, note=note)

    def _del(self, path: Path) -> None:
        keys = _records.path_of(path)
        self._enter(write=True)
        try:
            self._remove(self._holder(keys), keys[-1])
        except KeyError:
            raise KeyError(path) from None

    def _pop(self, path: Path, default: Any = _nothing) -> Any:
        keys = _records.path_of(path)
        self._enter(write=True)
        try:
            value = self._remove(self._holder(keys), keys[-1])
        except KeyError:
            if default is _nothing:
                raise KeyError(path) from None
            return default
        return value.value if type(value) is Pickled else value

    def setdefault(self, path: Path, default: Any = None) -> Any:
        keys = _records.path_of(path)
        self._enter(write=True)
        self._put_at(keys, default, missing=True)
        return self[keys]

    def add(self, path: Path, n: int = 1) -> int:
        """Adds to the whole number there, 0 where there is none, and gives the sum: nobody else
        writes between."""
        keys = _records.path_of(path)
        if type(n) is not int:
            raise TypeError(f"a counter counts in whole numbers, not {n!r}")
        while True:
            version, _, found = self._seen(keys)
            if found is MISSING:
                found = 0
            if type(found) is not int:
                raise TypeError(f"{'.'.join(keys)} of {self.name} is no whole number")
            if self._put_at(keys, found + n, version=version):
                return found + n

    def compare_and_set(self, path: Path, old: Any, new: Any) -> bool:
        """Puts `new` there if `old` is what is there; whoever comes second gets False.
        ``guado.MISSING`` as `old`: nothing may be there; as `new`: nothing is left."""
        keys = _records.path_of(path)
        while True:
            version, node, found = self._seen(keys)
            if not _same(found, old):
                return False
            if new is not MISSING:
                done = self._put_at(keys, new, version=version)
            elif found is not MISSING:
                done = self._remove(node, keys[-1], version=version) is not _nothing
            else:
                done = True
            if done:
                return True

    def _seen(self, keys: tuple[str, ...]) -> tuple[int, TrackedDict, Any]:
        """What is at a path, in which dict, and the version of the store that has it."""
        self._enter(write=True)
        version = self.version
        node, at = self._deepest(keys)
        found = dict.get(node, keys[-1], MISSING) if at == len(keys) - 1 else MISSING
        return version, node, found

    def update(self, *args: Any, **named: Any) -> None:
        """Sets each path of a dict to its value, one after the other."""
        for path, value in dict(*args, **named).items():
            self.set(path, value)

    def clear(self) -> None:
        self._empty(self._root)

    def __iter__(self) -> Iterator[str]:
        return iter(self._root)

    def __len__(self) -> int:
        return len(self._root)

    def keys(self) -> Any:
        return self._root.keys()

    def items(self) -> Any:
        return self._root.items()

    def values(self) -> Any:
        return self._root.values()

    # Subscriptions.

    def on_change(
        self, path: Path | None, function: Callable[[Written], None]
    ) -> Callable[[], None]:
        """Calls `function` behind every write at, below or above a path (None: any), in the
        code that writes. What is returned ends it."""
        entry = (() if path is None else _records.path_of(path), function)
        if self._listeners is None:
            self._listeners = []
        listeners = self._listeners
        listeners.append(entry)

        def end() -> None:
            if entry in listeners:
                listeners.remove(entry)

        return end

    # Locks.

    def transaction(self, timeout: float = PATIENCE) -> Held:
        """`with` or `async with`: until the commit of this exchange nobody else reads or
        writes the store, and what is written travels with that commit alone. In a coroutine
        `async with`: a plain one waits a second at most."""
        return transaction(self, timeout=timeout)

    def _open(self, exchange: Exchange) -> None:
        with self._ledger.lock:
            exchange.touched.add(self)
            exchange.generations.setdefault(self.owner.name, self.owner.generation)
            exchange.open[self] = exchange.open.get(self, 0) + 1
            again = self in exchange.closed
            exchange.closed.discard(self)
            self._gate = exchange
        if again:  # the lock that was kept for the commit is had once more now
            self._lock.release(exchange)

    def _close(self, exchange: Exchange) -> None:
        with self._ledger.lock:
            left = exchange.open.get(self, 0) - 1
            if left == 0:
                del exchange.open[self]
                exchange.closed.add(self)  # unlocked by the commit
                return
            exchange.open[self] = left
        self._lock.release(exchange)

    # Restoring.

    def snapshot(self) -> bytes:
        """Records that make this store out of an empty one."""
        with self._ledger.lock:
            return b"".join([*self._dump(), *self.changes._dump()])

    def restore(self, records: bytes) -> None:
        """Takes a snapshot in place of what there is, and records nothing. ValueError or
        LookupError: it is none, and the store is empty."""
        parsed = list(_records.read(records))
        with self._ledger.lock:
            try:
                self._load(parsed)
            except BaseException:
                self._load([])  # never half of it
                raise
            finally:
                self._count(self._weigh() - self.bytes)

    def _renew(self, owner: Owner, records: bytes) -> None:
        """The host has sent it anew: what this worker had is not the store any more."""
        with self._ledger.lock:
            self._forget_records()
            self.owner = owner
        self.restore(records)

    def _end(self) -> None:
        with self._ledger.lock:
            self._forget_records()
            self._count(-self.bytes)
            self._gate = ENDED

    def _rest(self) -> None:
        """Nobody has it in hand, and the host has all of it: its memory is free again."""
        self._end()
        with self._ledger.lock:
            self._load([])

    def _load(self, records: list[_records.Record]) -> None:
        self._apply(_records.CLEAR, (), (), 0, 0)
        self.changes._reset()
        for record in records:
            self._apply(*record)

    def _weigh(self) -> int:
        own: int = self.changes._weigh()
        return super()._weigh() + own

    def _apply(
        self, op: int, path: tuple[str, ...], items: Sequence[bytes], at: int, removed: int
    ) -> None:
        if op == _records.CHANGE:
            self.changes._waiting.append(items[0])
        elif op == _records.DRAIN:
            self.changes._drained(at)
        elif op == _records.SHARE:
            self.changes._shared(items[0])
        elif op == _records.NOTE:
            pass  # for clients
        elif not path:
            for key in list(dict.keys(self._root)):
                dict.__delitem__(self._root, key)
        else:
            node = self._root
            for key in path[:-1]:
                below = dict.get(node, key)
                if below is None:
                    below, _, _ = self._build(node, (*node._path(), key), {})
                    dict.__setitem__(node, key, below)
                if type(below) is not TrackedDict:
                    raise ValueError(f"a record goes through {key}, which is no dict")
                node = below
            self._apply_at(node, path, op, items, at, removed)

    def _apply_at(
        self,
        node: TrackedDict,
        path: tuple[str, ...],
        op: int,
        items: Sequence[bytes],
        at: int,
        removed: int,
    ) -> None:
        key = path[-1]
        if op == _records.DELETE:
            dict.__delitem__(node, key)
        elif op == _records.SET:
            slot = Slot(self, node, key)
            slot.value = adopt(_values.decode(items[0], self.pickles), slot)
            dict.__setitem__(node, key, slot.value)
        elif op in (_records.CLEAR, _records.LIST):
            built, _, _ = self._build(node, path, {} if op == _records.CLEAR else [])
            dict.__setitem__(node, key, built)
        target: Any = dict.get(node, key)
        if op in (_records.LIST, _records.APPEND, _records.REPLACE):
            if type(target) is not TrackedList:
                raise ValueError(f"{key} is no list")
            first = at if op == _records.REPLACE else list.__len__(target)
            new = [self._item(target, _values.decode(item))[0] for item in items]
            if first + removed > list.__len__(target):
                raise ValueError(f"items {first} to {first + removed} of {key}")
            list.__setitem__(target, slice(first, first + removed), new)


def _same(found: Any, other: Any) -> bool:
    """Whether two values are the same, types included."""
    if found is MISSING or other is MISSING:
        return found is other
    if isinstance(found, dict) and isinstance(other, dict):
        return dict.keys(found) == dict.keys(other) and all(
            _same(value, dict.get(other, key)) for key, value in list(dict.items(found))
        )
    if isinstance(found, dict) or isinstance(other, dict):
        return False
    return _values.encode(found) == _values.encode(other)


def transaction(*stores: Store, timeout: float = PATIENCE) -> Held:
    """`with` or `async with`: a transaction over several stores. They are locked in one
    order wherever they are named."""
    ordered = sorted(set(stores), key=lambda store: (store.name, id(store)))

    def owner() -> Exchange:
        return _owner(ordered[0]._ledger)

    def locks() -> list[Any]:
        exchange = owner()
        return [
            (
                store._lock,
                lambda store=store: store._open(exchange),
                lambda store=store: store._close(exchange),
            )
            for store in ordered
        ]

    return Held(locks, owner, timeout)


def _owner(ledger: Ledger) -> Exchange:
    exchange = _ledger.current() or ledger.enter()
    if exchange.over or exchange is ledger.outside:
        raise StoreError(
            "locks belong to a request, a turn or a message, and this code runs in none"
        )
    return exchange


class _Advisory(HeldBase):
    """`with store.lock():` where somebody else has it."""

    __slots__ = ()

    def _patience(self) -> float:
        return PATIENCE if self._timeout is None else self._timeout

    def _enter(self) -> None:
        exchange = _owner(self._store._ledger)
        self._store._lock.acquire(exchange, self._patience())
        self._exchange = exchange

    def _exit(self) -> None:
        self._store._lock.release(self._exchange)

    async def __aenter__(self) -> None:
        exchange = _owner(self._store._ledger)
        await self._store._lock.acquire_async(exchange, self._patience())
        self._exchange = exchange

    async def __aexit__(self, *exc: object) -> None:
        self._exit()


store_setup(held=_Advisory)
