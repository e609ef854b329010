"""What is done to the containers of a store: checked, counted, recorded, and then done.

Before: _tracked (methods of containers), store (paths). After: _ledger, whose commits take
the records. Not here: what stores offer to applications (store).

Every write makes its records first, under no lock. Under the record lock they are counted
against the limits and appended, and the containers change; what fails there half way (an
interrupt may come anywhere) is healed by recording the whole store anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from guado import _ledger, _records, _values
from guado._ledger import Exchange, Ledger, Owner, ReadOnly, StoreFull, StoreGone
from guado._locks import Lock
from guado._native import Slot, StoreBase
from guado._tracked import TrackedDict, TrackedList, adopt, adopt_new, common, leave, weigh
from guado._values import Pickled, encode

_log = logging.getLogger("guado")

Path = tuple[str, ...]
_nothing: Any = object()


# Keeps everybody out of the store of an item that has ended.
ENDED = Exchange("the end")


class Written(NamedTuple):
    """A change of a store, as its subscribers hear of it."""

    path: Path
    value: Any  # what is there now; None where nothing is
    reason: str | None
    deleted: bool


class _Planned(NamedTuple):
    records: list[bytes]
    cost: int  # what the store grows by
    do: Callable[[], Any]
    path: Path
    undo: Callable[[], None] | None = None  # where a new record of all would not do


class Writes(StoreBase):
    """The half of a store that changes it."""

    __slots__ = ()

    def __init__(
        self, ledger: Ledger, owner: Owner, name: str, limit: int, pickles: bool, patience: float
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._lock = Lock(ledger.locks, name)
        self._listeners = None  # of (path, function), as on_change makes them
        self._root = TrackedDict()
        self._root._store = self
        self.owner = owner
        self.name = name
        self.limit = limit
        self.pickles = pickles
        self.patience = patience  # seconds that a read or write waits for a transaction
        # Whose store it is, for the host: its kind and the id of page, connection or user.
        self.kind, self.id = 1, ""

    # Entering.

    def _enter(self, write: bool = False) -> Exchange:
        """Before each read and write: who does it, once no transaction keeps it out."""
        exchange = _ledger.current() or self._ledger.enter()
        if exchange.over:
            exchange = self._ledger.outside
        if self not in exchange.touched:
            self._ledger.touch(exchange, self)
        if self._gate is not None and self._gate is not exchange:
            self._wait(exchange)
        if write and exchange.read_only:
            raise ReadOnly(
                f"the answer of {exchange} has left, and its stores are read-only since; "
                "writing needs the page's turn: with page.turn()"
            )
        return exchange

    def _wait(self, exchange: Exchange) -> None:
        if self._gate is ENDED:
            raise StoreGone(f"{self.name} has ended, and its store with it")
        if exchange is self._ledger.outside:
            exchange = Exchange("code outside of every request")
        self._lock.acquire(exchange, self.patience)
        self._lock.release(exchange)

    def _write(self, container: Any, plan: Callable[[], _Planned | None]) -> bool:
        """Does what `plan` says, which is called under the record lock, looks and changes
        nothing. None: it looked too early, and is to be asked again by the caller. False:
        the container has left its store."""
        while True:
            exchange = self._enter(write=True)
            with self._ledger.lock:
                if self._gate is not None and self._gate is not exchange:
                    continue
                if container._where() is not self:
                    return False
                planned = plan()
                if planned is None:
                    return True
                self._admit(planned.cost)
                self._record(exchange, planned)
                break
        if exchange is self._ledger.outside:
            self._ledger.loose()
        return True

    def _admit(self, cost: int) -> None:
        if cost <= 0:
            return
        if self.bytes + cost > self.limit:
            raise StoreFull(
                f"{self.name} has {self.bytes} of {self.limit} bytes, and this needs {cost} more"
            )
        if self._ledger.bytes + cost > self._ledger.limit:
            raise StoreFull(
                f"the stores of this worker have {self._ledger.bytes} of "
                f"{self._ledger.limit} bytes, and this needs {cost} more"
            )

    def _record(self, exchange: Exchange, planned: _Planned) -> None:
        exchange.touched.add(self)  # a commit may have been between
        lock = self._lock
        owner = exchange if self._gate is exchange else None
        token = lock.token if lock.owner is exchange else 0
        records = planned.records
        before = self.version
        try:
            planned.do()
            self._append_records(len(records), b"".join(records), owner, token)
            self._count(planned.cost)
        except BaseException:
            if planned.undo is None:
                self._heal(owner, token)
            elif self.version == before:
                planned.undo()
            self._count(self._weigh() - self.bytes)
            raise

    def _count(self, cost: int) -> None:
        self.bytes += cost
        self._ledger.bytes += cost

    def _heal(self, owner: Exchange | None, token: int) -> None:
        """Records all that there is: nobody knows which half of a write was done."""
        records = [_records.clear(b"\0"), *self._dump()]
        self._append_records(len(records), b"".join(records), owner, token)

    def _weigh(self) -> int:
        return sum(weigh(k, v) for k, v in dict.items(self._root))

    # Values.

    def _build(self, up: TrackedDict, path: Path, value: Any) -> tuple[Any, list[bytes], int]:
        """What is put at a path: the object, its records, its cost."""
        at = _records.path_bytes(path)
        own = _records.cost_of_node(path[-1])
        if type(value) in _values.PLAIN:
            data = encode(value)
            return value, [_records.leaf(at, data)], own + len(data)
        kind = getattr(type(value), "_plain", type(value))
        if kind is dict:
            node = TrackedDict()
            node._up, node._key, node._store = up, path[-1], self
            records = [_records.clear(at)]
            for key, part in list(dict.items(value)):
                built, more, cost = self._build(node, (*path, key), part)
                dict.__setitem__(node, key, built)
                records += more
                own += cost
            return node, records, own
        if kind is list:
            items = TrackedList()
            items._up, items._key, items._store = up, path[-1], self
            pairs = [self._item(items, part) for part in list.__iter__(value)]
            list.extend(items, [new for new, _ in pairs])
            encoded = [data for _, data in pairs]
            return items, [_records.whole(at, encoded)], own + _records.cost_of_items(encoded)
        slot = Slot(self, up, path[-1])
        slot.value = leaf = adopt(value, slot)
        try:
            data = encode(leaf)
        except TypeError:
            if not self.pickles:
                raise
            leaf = _values.pickled(value)
            data = encode(leaf)
        return leaf, [_records.leaf(at, data)], own + len(data)

    def _item(self, node: TrackedList, value: Any) -> tuple[Any, bytes]:
        slot = Slot(self, node)
        slot.value = adopt(value, slot)
        return slot.value, encode(slot.value)

    # Dicts that are nodes.

    def _put(
        self,
        node: TrackedDict,
        pairs: Iterable[tuple[Any, Any]],
        missing: bool = False,
        reason: str | None = None,
        tell: bool = True,
        version: int | None = None,
        note: bytes = b"",
    ) -> bool:
        """All of the pairs or none. False: `missing`, and there is one; or the store is not at
        `version` any more."""
        path = node._path()
        new = [(key, value, *self._build(node, (*path, key), value)) for key, value in pairs]
        before: dict[Any, Any] = {}
        done = not new

        def do() -> None:
            for key, _, built, _, _ in new:
                dict.__setitem__(node, key, built)

        def undo() -> None:
            for key, *_ in new:
                if key in before:
                    dict.__setitem__(node, key, before[key])
                else:
                    dict.pop(node, key, None)

        def plan() -> _Planned | None:
            nonlocal done
            if version is not None and version != self.version:
                return None
            cost = 0
            for key, _, _, _, own in new:
                cost += own
                if dict.__contains__(node, key):
                    if missing:
                        return None
                    before[key] = dict.__getitem__(node, key)
                    cost -= weigh(key, before[key])
            done = True
            records = [r for *_, records, _ in new for r in records]
            if note:
                records.insert(0, _records.note(len(records), note))
            return _Planned(records, cost, do, path, undo if len(new) > 1 else None)

        if new and not self._write(node, plan):
            if version is not None:
                return False
            for key, value, *_ in new:
                dict.__setitem__(node, key, value)
            return True
        for value in before.values():
            leave(value)
        if done and tell:
            for key, *_ in new:
                self._tell((*path, key), reason)
        return done

    def _put_at(
        self,
        keys: Path,
        value: Any,
        missing: bool = False,
        reason: str | None = None,
        version: int | None = None,
        note: bytes = b"",
    ) -> bool:
        """At a path; the dicts that are missing on the way come with it, or do not come. False:
        as _put."""
        while True:
            node, at = self._deepest(keys)
            if at == len(keys) - 1:
                pair = ((keys[at], value),)
                return self._put(node, pair, missing, reason, version=version, note=note)
            below = value
            for key in reversed(keys[at + 1 :]):
                below = {key: below}
            if self._put(node, ((keys[at], below),), True, None, False, version, note):
                for end in range(at + 1, len(keys)):
                    self._tell(keys[:end], None)
                self._tell(keys, reason)
                return True
            if version is not None:
                return False

    def _deepest(self, keys: Path) -> tuple[TrackedDict, int]:
        """The last dict that there is on the way to a path, and which key is to be in it."""
        node = self._root
        for at, key in enumerate(keys[:-1]):
            below = dict.get(node, key, _nothing)
            if below is _nothing:
                return node, at
            if type(below) is not TrackedDict or type(below._up) is Slot:
                raise TypeError(
                    f"{'.'.join(keys[: at + 1])} of {self.name} is no dict, and can have no "
                    f"{keys[at + 1]}; delete it first"
                )
            node = below
        return node, len(keys) - 1

    def _remove(
        self,
        node: TrackedDict,
        key: Any,
        reason: str | None = None,
        version: int | None = None,
        note: bytes = b"",
    ) -> Any:
        """What was there; _nothing: the store is not at `version` any more."""
        path = node._path()
        found: list[Any] = []

        def plan() -> _Planned | None:
            if version is not None and version != self.version:
                return None
            found.append(dict.__getitem__(node, key))
            record = _records.delete(_records.path_bytes((*path, key)))
            records = [_records.note(1, note), record] if note else [record]
            return _Planned(
                records, -weigh(key, found[0]), lambda: dict.__delitem__(node, key), path
            )

        if not self._write(node, plan):
            return dict.pop(node, key) if version is None else _nothing
        if not found:
            return _nothing
        leave(found[0])
        self._tell((*path, key), reason, deleted=True)
        return found[0]

    def _empty(self, node: TrackedDict, reason: str | None = None) -> None:
        path = node._path()
        old: list[Any] = []

        def plan() -> _Planned:
            old.extend(dict.values(node))
            cost = -sum(weigh(k, v) for k, v in dict.items(node))
            at = _records.path_bytes(path)
            return _Planned([_records.clear(at)], cost, lambda: dict.clear(node), path)

        if not self._write(node, plan):
            dict.clear(node)
            return
        for value in old:
            leave(value)
        self._tell(path, reason)

    # Lists that are nodes.

    def _append(self, node: TrackedList, values: list[Any]) -> None:
        if not values:
            return
        path = node._path()
        pairs = [self._item(node, value) for value in values]
        encoded = [data for _, data in pairs]

        def plan() -> _Planned:
            record = _records.append(_records.path_bytes(path), encoded)
            cost = _records.cost_of_items(encoded)
            return _Planned([record], cost, lambda: list.extend(node, [n for n, _ in pairs]), path)

        if not self._write(node, plan):
            list.extend(node, values)
            return
        self._tell(path, None)

    def _edit(self, node: TrackedList, op: Callable[[list[Any]], Any]) -> Any:
        """`op` changes a plain list, which becomes the content. It may call code of the
        application (keys of a sort), so no lock is held; if the list is another one
        afterwards, it is done once more."""
        path = node._path()
        while True:
            self._enter(write=True)
            before = list(list.__iter__(node))
            after = before.copy()
            result = op(after)
            head, tail = common(before, after)
            old = before[head : len(before) - tail]
            new, gone = self._middle(node, old, after[head : len(after) - tail])
            late = False

            def plan(
                before: list[Any] = before,
                head: int = head,
                new: list[tuple[Any, bytes]] = new,
                old: list[Any] = old,
            ) -> _Planned | None:
                nonlocal late
                now = list(list.__iter__(node))
                if len(now) != len(before) or any(
                    a is not b for a, b in zip(now, before, strict=True)
                ):
                    late = True
                    return None
                if not new and not old:
                    return None
                encoded = [data for _, data in new]
                cost = _records.cost_of_items(encoded) - _records.cost_of_items(map(encode, old))
                at = _records.path_bytes(path)
                record = _records.replace(at, head, len(old), encoded)
                objects = [obj for obj, _ in new]
                span = slice(head, head + len(old))
                return _Planned([record], cost, lambda: list.__setitem__(node, span, objects), path)

            if not self._write(node, plan):
                return op(node)
            if not late:
                for value in gone:
                    leave(value)
                if new or old:
                    self._tell(path, None)
                return result

    def _middle(
        self, node: TrackedList, old: list[Any], middle: list[Any]
    ) -> tuple[list[tuple[Any, bytes]], list[Any]]:
        """The items that come in the place of `old`, and those of old that have left."""
        own = {id(value) for value in old if _can_change(value)}
        new = []
        for value in middle:
            if id(value) in own:
                own.discard(id(value))  # it has moved; a second one of it is a copy
                new.append((value, encode(value)))
            else:
                new.append(self._item(node, value))
        return new, [value for value in old if id(value) in own]

    # Containers inside of leaves and items.

    def _inside(self, container: Any, kind: Any, op: Callable[[Any], Any]) -> Any:
        """`op` changes a container that hangs in a slot: as in _edit, a copy of it."""
        slot: Slot = container._up
        path: Path = ()
        late = True

        while late:
            self._enter(write=True)
            before = _content(kind, container)
            after = kind(before)
            result = op(after)

            def plan(before: Any = before, after: Any = after) -> _Planned | None:
                nonlocal late, path
                if late := not _same(kind, before, _content(kind, container)):
                    return None
                old = len(encode(slot.value))
                try:  # in its place, to know how all of the slot is encoded then
                    try:
                        _fill(kind, container, after)
                        adopt_new(container, slot)
                        adopted = _content(kind, container)
                        data = encode(slot.value)
                        path, record = self._of_slot(slot, data)
                    finally:
                        _fill(kind, container, before)
                except BaseException:
                    _fill(kind, container, before)  # what gives it back may be interrupted, too
                    raise
                return _Planned(
                    [record],
                    len(data) - old,
                    lambda: _fill(kind, container, adopted),
                    path,
                    lambda: _fill(kind, container, before),
                )

            if not self._write(container, plan):  # it has left its store meanwhile
                _fill(kind, container, after)
                return result
        self._tell(path, None)
        return result

    def _of_slot(self, slot: Slot, data: bytes) -> tuple[Path, bytes]:
        path = slot.node._path()
        if type(slot.node) is TrackedList:
            at = _index(slot.node, slot.value)
            return path, _records.replace(_records.path_bytes(path), at, 1, [data])
        path = (*path, slot.key)
        return path, _records.leaf(_records.path_bytes(path), data)

    # Pickled objects.

    def _lend(self, node: TrackedDict, key: str, held: Pickled) -> None:
        """An application has got a pickled object, and may change it."""
        exchange = self._enter()
        exchange.pickles[id(held), key] = (self, (*node._path(), key), held)

    def _compare(self, path: Path, held: Pickled) -> None:
        """Records a pickled object that is not what was recorded last."""
        data = held.now()
        if data == held.data:
            return
        at = _records.path_bytes(path)
        node = self._node_at(path)
        if node is None:
            return

        def plan() -> _Planned | None:
            if dict.get(node, path[-1]) is not held or held.data == data:
                return None
            before = len(encode(held))
            new = encode(Pickled(held.value, data))
            return _Planned(
                [_records.leaf(at, new)],
                len(new) - before,
                lambda: setattr(held, "data", data),
                path,
            )

        self._write(node, plan)

    def _node_at(self, path: Path) -> TrackedDict | None:
        """The dict that holds the last key of a path."""
        node: Any = self._root
        for key in path[:-1]:
            if type(node) is not TrackedDict:
                return None
            node = dict.get(node, key)
        return node if type(node) is TrackedDict else None

    # Subscribers.

    def _tell(self, path: Path, reason: str | None, deleted: bool = False) -> None:
        if not self._listeners:
            return
        value: Any = self._root
        for key in path:
            value = dict.get(value, key) if isinstance(value, dict) else None
        if type(value) is Pickled:
            value = value.value
        written = Written(path, value, reason, deleted)
        for prefix, function in list(self._listeners or ()):
            shorter = min(len(prefix), len(path))
            if prefix[:shorter] == path[:shorter]:
                try:
                    function(written)
                except Exception:
                    _log.exception("a subscriber of %s, %s, failed", self.name, ".".join(prefix))

    # Snapshots.

    def _dump(self) -> Iterable[bytes]:
        return _dump(self._root, ())


def _dump(node: TrackedDict, path: Path) -> Iterable[bytes]:
    for key, value in dict.items(node):
        at = _records.path_bytes((*path, key))
        if type(value) is TrackedDict and type(value._up) is not Slot:
            yield _records.clear(at)
            yield from _dump(value, (*path, key))
        elif type(value) is TrackedList and type(value._up) is not Slot:
            yield _records.whole(at, [encode(item) for item in list.__iter__(value)])
        else:
            yield _records.leaf(at, encode(value))


def _can_change(value: Any) -> bool:
    if type(value) is tuple:
        return any(map(_can_change, value))
    return getattr(type(value), "_plain", None) is not None


def _content(kind: Any, container: Any) -> Any:
    return list(dict.items(container)) if kind is dict else list(kind.__iter__(container))


def _same(kind: Any, before: list[Any], now: list[Any]) -> bool:
    if len(before) != len(now):
        return False
    if kind is dict:
        return all(a is c and b is d for (a, b), (c, d) in zip(before, now, strict=True))
    return all(a is b for a, b in zip(before, now, strict=True))


def _fill(kind: Any, container: Any, content: Any) -> None:
    kind.clear(container)
    (kind.extend if kind is list else kind.update)(container, content)


def _index(node: TrackedList, value: Any) -> int:
    for index, item in enumerate(list.__iter__(node)):
        if item is value:
            return index
    raise RuntimeError("an item of a list hangs nowhere")
