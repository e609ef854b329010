"""All items of one register into another: 3 → 4 out of GenroPy's own, 4 → 3 into it.

Before: a change of the phase; tests. After: both registers, by the calls that each has. Not
here: when that is done, and that nobody else calls meanwhile.

An item goes with its fields, its data, and the changes that its client waits for. Locks do
not: who holds one is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from guado.adapters.genropy._compare import Difference, differences
from guado.adapters.genropy._legacy import Port

# In this order a register can be filled: a page belongs to a connection, that to a user.
_CALLS = {"user": "users", "connection": "connections", "page": "pages"}


class Copy(NamedTuple):
    """An item as it was read."""

    kind: str
    id: Any
    fields: dict[str, Any]
    data: Any

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Done(NamedTuple):
    """What became of a transfer."""

    copied: int
    refused: list[tuple[str, Exception]]  # items that the other register did not take
    differences: list[Difference]  # of items that it did take


def items(source: Port) -> Iterator[Copy]:
    for kind, call in _CALLS.items():
        for fields in source.call(call, (), {}):
            yield _read(source, kind, fields)
    yield _read(source, "global", source.call("get_item", ("*",), {"register_name": "global"}))


def _read(source: Port, kind: str, fields: dict[str, Any]) -> Copy:
    fields.pop("data", None)
    id = fields["register_item_id"]
    data = source.call("get_item_data", (id,), {"register_name": kind})
    data.clearBackRef()  # where it goes, it hangs somewhere else
    return Copy(kind, id, fields, data)


def transfer(source: Port, target: Port) -> Done:
    """Makes the target's items those of the source."""
    read = list(items(source))
    _empty(target)
    copied, refused = 0, []
    for item in read:
        try:
            _put(target, item)
            copied += 1
        except Exception as error:
            refused.append((str(item), error))
    there = [item for item in read if str(item) not in dict(refused)]
    return Done(copied, refused, list(differences_of(there, list(items(target)))))


def _empty(target: Port) -> None:
    for kind, call in reversed(_CALLS.items()):
        for fields in target.call(call, (), {}):
            target.call("drop", (fields["register_item_id"],), {"register_name": kind})
    for label in target.bag_call("global", "*", None, "keys"):
        # GenroPy's trigger fails at the top of a Bag, when the node is gone.
        target.bag_call("global", "*", None, "setItem", (label, None))
    nodes = target.bag_call("global", "*", None, "__len__")
    if nodes:
        _clear(target)


def _clear(target: Port) -> None:
    try:
        target.bag_call("global", "*", None, "clear")
    except TypeError:
        if target.bag_call("global", "*", None, "__len__"):
            raise


def _put(target: Port, item: Copy) -> None:
    name = {"register_name": item.kind}
    if item.kind == "page":
        target.call("create", (item.id,), {**name, **_made_of(item), "data": item.data})
    else:
        if item.kind != "global":
            target.call("create", (item.id,), {**name, **_made_of(item)})
        for node in item.data._nodes:
            call = (node.label, node._value, node.attr)
            target.bag_call(item.kind, item.id, None, "appendNode", call)
    for path, attributes in _caching(item.data):
        target.bag_call(item.kind, item.id, None, "setAttr", (path, attributes))
    # Last, for what was written must be no change that a client hears of.
    target.call("update_item", (item.id, item.fields), name)


def _made_of(item: Copy) -> dict[str, Any]:
    """What an item needs at once, for its owner is looked up."""
    names = {"page": ("connection_id", "user"), "connection": ("user", "user_ip", "user_agent")}
    return {name: item.fields.get(name) for name in names.get(item.kind, ())}


def _caching(data: Any) -> list[tuple[str, dict[str, Any]]]:
    """Nodes of which the register must know that they hold rows of a table."""
    found = []

    def look(node: Any, _pathlist: list[str]) -> None:
        if node.attr.get("_caching_table"):
            found.append((".".join([*_pathlist, node.label]), dict(node.attr)))

    data.walk(look, _pathlist=[])
    return found


def compare(theirs: Port, ours: Port) -> Iterator[Difference]:
    """Where items differ, with nothing left out: a copied time is the same time."""
    return differences_of(list(items(theirs)), list(items(ours)))


def differences_of(theirs: list[Copy], ours: list[Copy]) -> Iterator[Difference]:
    """As compare, of items that have been read."""
    there, here = ({(i.kind, i.id): i for i in read} for read in (theirs, ours))
    if list(there) != list(here):
        yield Difference("items", sorted(set(there) - set(here)), sorted(set(here) - set(there)))
    for key in there.keys() & here.keys():
        for part in ("fields", "data"):
            a, b = getattr(there[key], part), getattr(here[key], part)
            yield from differences(a, b, frozenset(), f"{key[0]} {key[1]} {part}")
