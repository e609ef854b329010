"""Values of GenroPy in stores: Bags as dicts of the store, other objects as they can be kept.

Before: _items, which has the living Bags. After: guado.store. Not here: what an item is, and
when something is written.

A Bag is a dict of its nodes by their labels. A node's entry is its value, and its attributes
are beside it at `@label`:

    data = {"rootenv": {"workdate": date(2026, 2, 3), "@workdate": ({"dtype": "D"},)}}

A dict, list, tuple or set of Python's is kept within a tuple of one, so that it is not taken
for a Bag; what a store cannot keep, as `("pickle", bytes)`. That holds also for a Bag that is
no tree of such nodes: one with resolvers, validators, two nodes of one label, or labels that
begin with @; for subclasses of Bag; and for what lies too deep.
"""

from __future__ import annotations

import datetime
import pickle
import re
from decimal import Decimal
from typing import Any

from gnr.core.gnrbag import Bag, BagNode, BagResolver

from guado import _records, _values
from guado.store import Store

Path = tuple[str, ...]

# Levels of a Bag in a store: a path has 32 keys, of which some are not of the Bag.
MOST_LEVELS = 24

# Of these a store keeps every value.
_SURE = frozenset((bool, int, float, bytes, type(None), Decimal, datetime.date))

_nothing: Any = object()


def keep(value: Any) -> Any:
    """What a store keeps for a value that is no Bag."""
    kind = type(value)
    if kind in _SURE or (kind is str and value.isascii()):
        return value
    try:
        if kind in _values.PLAIN:
            _values.encode(value)
            return value
        if kind in (dict, list, tuple, set, frozenset):
            _values.encode((value,))
            return (value,)
    except (TypeError, ValueError):
        pass
    return ("pickle", pickle.dumps(value, protocol=4))


def found(kept: Any) -> Any:
    """The value of which `keep` made this, and nobody else's."""
    if type(kept) is not tuple:
        return kept
    if len(kept) == 2:
        return pickle.loads(kept[1])
    # Of Python's own, without the store's hooks.
    return _values.decode(_values.encode(kept[0]))


def entry(value: Any, levels: int = 0) -> Any:
    """What a store keeps for the value of a node."""
    if type(value) is Bag and levels < MOST_LEVELS and _is_tree(value):
        kept: dict[str, Any] = {}
        for node in value._nodes:
            kept[node.label] = entry(node._value, levels + 1)
            if node.attr:
                kept["@" + node.label] = keep(node.attr)
        return kept
    return keep(value)


def _is_tree(bag: Any) -> bool:
    if bag._rootattributes or bag._symbols:
        return False
    labels = set()
    for node in bag._nodes:
        label = node.label
        if type(node) is not BagNode or node._resolver is not None or node._validators:
            return False
        if type(label) is not str or label[:1] == "@" or label in labels:
            return False
        try:
            _records.key_bytes("@" + label)
        except ValueError:
            return False
        labels.add(label)
    return True


def value_of(kept: Any) -> Any:
    """The value of a node, out of its entry."""
    if not isinstance(kept, dict):
        return found(kept)
    bag = Bag()
    for label, below in kept.items():
        if label[:1] != "@":
            attributes = kept.get("@" + label)
            node = BagNode(bag, label)
            node.attr = {} if attributes is None else found(attributes)
            node._value = value_of(below)
            bag._nodes.append(node)
    return bag


_SIMPLE = re.compile(r"[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)*")
_PLACING = ("_position", "_duplicate", "_validators")


def simple_path(method: str, args: tuple[Any, ...], named: dict[str, Any]) -> Path | None:
    """The labels of the one node that a call of a Bag's method sets, where no more than that
    can be meant."""
    if method not in ("setItem", "__setitem__") or not args or any(k in named for k in _PLACING):
        return None
    path = args[0]
    if type(path) is not str or _SIMPLE.fullmatch(path) is None or len(args) > 3:
        return None
    if len(args) > 1 and isinstance(args[1], BagResolver):
        return None
    return tuple(path.split("."))


def write_node(store: Store, root: Path, bag: Any, labels: Path) -> None:
    """Writes what one node of a Bag is now, and no other."""
    at = root
    kept = store.get(at, _nothing)
    for level, label in enumerate(labels):
        node = bag.getNode(label) if isinstance(kept, dict) and type(bag) is Bag else None
        if node is None:
            break
        below = store.get((*at, label), _nothing)
        last = level == len(labels) - 1
        if last or not isinstance(below, dict) or type(node._value) is not Bag:
            _write(store, at, node, level + 1)
            return
        at, bag, kept = (*at, label), node._value, below
    write(store, root, bag)


def _write(store: Store, at: Path, node: Any, levels: int) -> None:
    store.set((*at, node.label), entry(node._value, levels))
    beside = (*at, "@" + node.label)
    if node.attr:
        store.set(beside, keep(node.attr))
    elif beside in store:
        del store[beside]


def write(store: Store, at: Path, value: Any) -> None:
    """Writes where a value differs from what is kept at a path."""
    _differences(store, at, entry(value))


def _differences(store: Store, at: Path, now: Any) -> None:
    kept = store.get(at, _nothing)
    if not isinstance(now, dict) or not isinstance(kept, dict):
        if kept is _nothing or isinstance(kept, dict) or not _same(now, kept):
            store.set(at, now)
        return
    before = list(kept)
    stay = [label for label in before if label in now]
    if stay != list(now)[: len(stay)]:  # another order: only a new dict has it
        store.set(at, now)
        return
    for label in before:
        if label not in now:
            del store[(*at, label)]
    for label, below in now.items():
        _differences(store, (*at, label), below)


def _same(now: Any, kept: Any) -> bool:
    if isinstance(now, dict):
        return False
    return _values.encode(now) == _values.encode(kept)
