"""Dicts, lists and sets of a store, whose changes record themselves.

Before: an application has read them from a store. After: store, which makes records of what
is done to them. Not here: paths with dots, locks and commits.

A container is copied when it is put into a store: what the application had before is no
part of it. One that has left its store is an ordinary container again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, SupportsIndex

from guado import _native, _records, _values
from guado._native import DictBase, ListBase, Slot
from guado._values import Pickled, encode

if TYPE_CHECKING:
    from guado._writes import Writes as Store


class _Tracked:
    """Where a container is: `_up` is the dict above it (None: it is the root), or a Slot:
    where a value with containers inside hangs, an item of a list or a leaf. What changes
    within it is recorded as the whole of it."""

    __slots__ = ()
    _up: TrackedDict | Slot | None
    _key: str

    def _path(self) -> tuple[str, ...]:
        keys = []
        node: Any = self
        while node._up is not None:
            keys.append(node._key)
            node = node._up
        return tuple(reversed(keys))


def _recorded(kind: Any, name: str) -> Any:
    """A method that changes a container inside of a leaf or item."""
    native = getattr(kind, name)

    def method(self: Any, *args: Any, **named: Any) -> Any:
        store = self._where()
        if store is None:
            return native(self, *args, **named)
        result = store._inside(self, kind, lambda content: native(content, *args, **named))
        return self if name.startswith("__i") else result

    method.__name__ = name
    return method


class TrackedDict(DictBase, _Tracked):
    """A dict of a store."""

    __slots__ = ()
    _plain = dict

    def __reduce_ex__(self, _: SupportsIndex) -> Any:
        return dict, (dict(self.items()),)

    def _opened(self, key: Any, value: Any) -> Any:
        if type(value) is not Pickled:
            return value
        if self._store is not None:
            self._store._lend(self, key, value)
        return value.value

    # Where pickled objects may be among them.

    def _items(self) -> Any:
        self._read()
        return {k: self._opened(k, v) for k, v in dict.items(self)}.items()

    def _values(self) -> Any:
        self._read()
        return {k: self._opened(k, v) for k, v in dict.items(self)}.values()

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    def _node(self) -> Store | None:
        """The store, where this is a node with a path."""
        return None if type(self._up) is Slot else self._store

    def _set(self, key: Any, value: Any) -> None:
        store = self._node()
        if store is not None:
            store._put(self, ((key, value),))
        else:
            _dict_set(self, key, value)

    def _del(self, key: Any) -> None:
        store = self._node()
        if store is not None:
            store._remove(self, key)
        else:
            _dict_del(self, key)

    def clear(self) -> None:
        store = self._node()
        if store is not None:
            store._empty(self)
        else:
            _dict_clear(self)

    def update(self, *args: Any, **named: Any) -> None:
        new = dict(*args, **named)
        store = self._node()
        if store is not None:
            store._put(self, new.items())
        else:
            _dict_update(self, new)

    def __ior__(self, other: Any) -> TrackedDict:  # type: ignore[misc]
        self.update(other)
        return self

    def setdefault(self, key: Any, default: Any = None) -> Any:
        store = self._node()
        if store is not None:
            store._put(self, ((key, default),), missing=True)
        elif key not in self:
            self[key] = default
        return self[key]

    _nothing = object()

    def _pop(self, key: Any, default: Any = _nothing) -> Any:
        store = self._node()
        try:
            value = store._remove(self, key) if store is not None else _dict_pop(self, key)
        except KeyError:
            if default is TrackedDict._nothing:
                raise
            return default
        return value.value if type(value) is Pickled else value

    def popitem(self) -> tuple[Any, Any]:
        for key in reversed(list(self)):
            return key, self.pop(key)
        raise KeyError("popitem(): dictionary is empty")


_dict_set = _recorded(dict, "__setitem__")
_dict_del = _recorded(dict, "__delitem__")
_dict_clear = _recorded(dict, "clear")
_dict_update = _recorded(dict, "update")
_dict_pop = _recorded(dict, "pop")


class TrackedList(ListBase, _Tracked):
    """A list of a store."""

    __slots__ = ()
    _plain = list

    def __reduce_ex__(self, _: SupportsIndex) -> Any:
        return list, (list(self),)

    def copy(self) -> list[Any]:
        return list(self)

    def extend(self, values: Iterable[Any]) -> None:
        store = None if type(self._up) is Slot else self._store
        if store is not None:
            store._append(self, list(values))
        else:
            _list_extend(self, list(values))

    def __iadd__(self, values: Iterable[Any]) -> TrackedList:  # type: ignore[misc]
        self.extend(values)
        return self


def _edited(name: str) -> Any:
    """A method that changes a list: a node's new content is made beside it."""
    native = getattr(list, name)
    inside = _recorded(list, name)

    def method(self: TrackedList, *args: Any, **named: Any) -> Any:
        store = None if type(self._up) is Slot else self._store
        if store is None:
            return inside(self, *args, **named)
        result = store._edit(self, lambda content: native(content, *args, **named))
        return self if name == "__imul__" else result

    method.__name__ = name
    return method


_list_extend = _recorded(list, "extend")
_EDITS = {"__setitem__": "_set", "__delitem__": "_del", "pop": "_pop"}  # in C where it is simple
for _name in (*_EDITS, "__imul__", "insert", "remove", "clear", "sort", "reverse"):
    setattr(TrackedList, _EDITS.get(_name, _name), _edited(_name))


class TrackedSet(set[Any], _Tracked):
    """A set of a store. It is never a node, and always in a slot."""

    __slots__ = ("_up",)
    _plain = set

    def __init__(self) -> None:
        super().__init__()
        self._up: Any = None

    def _where(self) -> Store | None:
        return None if self._up is None else self._up.store

    def _read(self) -> None:
        store = self._where()
        if store is not None:
            store._enter()

    def __reduce_ex__(self, _: SupportsIndex) -> Any:
        return set, (list(self),)

    def __iter__(self) -> Iterator[Any]:
        self._read()
        return super().__iter__()

    def __len__(self) -> int:
        self._read()
        return super().__len__()

    def __contains__(self, value: object) -> bool:
        self._read()
        return super().__contains__(value)

    def copy(self) -> set[Any]:
        return set(self)


_OPERATORS = ("__ior__", "__iand__", "__isub__", "__ixor__")
_UPDATES = ("update", "intersection_update", "difference_update", "symmetric_difference_update")
for _name in ("add", "discard", "remove", "pop", "clear", *_UPDATES, *_OPERATORS):
    setattr(TrackedSet, _name, _recorded(set, _name))

_TRACKED = (TrackedDict, TrackedList, TrackedSet)


def adopt(value: Any, slot: Slot, depth: int = 0) -> Any:
    """A copy of `value`, of which every container that can change hangs in `slot`."""
    kind = getattr(type(value), "_plain", type(value))
    if kind is not type(value) and value._up is slot:
        return value
    if depth > _values.MOST_DEPTH:
        raise ValueError(f"a value is nested more than {_values.MOST_DEPTH} deep, or holds itself")
    if kind is dict:
        new = TrackedDict()
        new._up = slot
        for key, part in list(dict.items(value)):
            dict.__setitem__(new, key, adopt(part, slot, depth + 1))
        return new
    if kind is list:
        items = TrackedList()
        items._up = slot
        list.extend(items, [adopt(part, slot, depth + 1) for part in list.__iter__(value)])
        return items
    if kind is set:
        members = TrackedSet()
        members._up = slot
        set.update(members, value)
        return members
    if kind is tuple:
        parts = tuple(adopt(part, slot, depth + 1) for part in value)
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    return value


_native.store_setup(dict=TrackedDict, list=TrackedList, set=TrackedSet, adopt=adopt)


def adopt_new(container: Any, slot: Slot) -> None:
    """Adopts what was put into a container that hangs in `slot`."""
    if type(container) is TrackedDict:
        for key, part in list(dict.items(container)):
            if getattr(part, "_up", None) is not slot:
                dict.__setitem__(container, key, adopt(part, slot))
    elif type(container) is TrackedList:
        for index, part in enumerate(list.__iter__(container)):
            if getattr(part, "_up", None) is not slot:
                list.__setitem__(container, index, adopt(part, slot))


def leave(value: Any) -> None:
    """`value` has left its store, with all that is in it."""
    if isinstance(value, _TRACKED):
        if type(value._up) is Slot:
            value._up.store = None
            return
        value._store = None  # type: ignore[union-attr]
        inside: Any = dict.values(value) if isinstance(value, dict) else list.__iter__(value)  # type: ignore[arg-type]
        for part in inside:
            leave(part)
    elif type(value) is tuple:
        for part in value:
            leave(part)


_native.store_setup(leave=leave)


def weigh(key: str, value: Any) -> int:
    """What a value at `key` costs in the account."""
    own = _records.cost_of_node(key)
    if type(value) is TrackedDict and type(value._up) is not Slot:
        return own + sum(weigh(k, v) for k, v in dict.items(value))
    if type(value) is TrackedList and type(value._up) is not Slot:
        return own + _records.cost_of_items(map(encode, list.__iter__(value)))
    return own + len(encode(value))


def common(before: list[Any], after: list[Any]) -> tuple[int, int]:
    """How many items at the head and at the tail are the same objects."""
    most = min(len(before), len(after))
    head = 0
    while head < most and before[head] is after[head]:
        head += 1
    tail = 0
    while tail < most - head and before[-1 - tail] is after[-1 - tail]:
        tail += 1
    return head, tail
