"""Where two answers of registers differ: the paths, and what is there on both sides.

Before: _shadow, transfers and the tests. After: nothing. Not here: whose answer is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gnr.core.gnrbag import Bag, BagNode
from gnr.web.gnrwebpage import ClientDataChange

# What two registers with clocks of their own cannot have in common.
VOLATILE = frozenset(("start_ts", "change_ts", "last_refresh_ts"))

# Calls whose answer is a list in the order of a set.
UNORDERED = frozenset(("filter_subscribed_tables",))

_CHANGE = ("path", "value", "attributes", "reason", "fired", "change_ts", "change_idx", "delete")
_absent = "nothing"


class Difference(NamedTuple):
    path: str  # from the answer on: pages[3].data.rootenv?workdate
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.path or 'the answer'}: {_shown(self.theirs)}, ours {_shown(self.ours)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"


def differences(
    theirs: Any, ours: Any, volatile: frozenset[str] = VOLATILE, path: str = ""
) -> Iterator[Difference]:
    """Each lowest place where one differs from the other; the same place only once."""
    if type(theirs) is not type(ours):
        yield Difference(path, theirs, ours)
    elif isinstance(theirs, Bag):
        yield from _bags(theirs, ours, volatile, path)
    elif isinstance(theirs, BagNode):
        yield from _nodes(theirs, ours, volatile, path)
    elif isinstance(theirs, ClientDataChange):
        a, b = ({n: getattr(c, n) for n in _CHANGE} for c in (theirs, ours))
        yield from _dicts(a, b, volatile, path)
    elif isinstance(theirs, dict):
        yield from _dicts(theirs, ours, volatile, path)
    elif isinstance(theirs, list | tuple):
        yield from _lists(list(theirs), list(ours), volatile, path)
    elif theirs != ours and not (theirs != theirs and ours != ours):
        yield Difference(path, theirs, ours)


def _bags(theirs: Any, ours: Any, volatile: frozenset[str], path: str) -> Iterator[Difference]:
    labels = [[node.label for node in bag._nodes] for bag in (theirs, ours)]
    if labels[0] != labels[1]:
        yield Difference(f"{path}?labels", *labels)
        return
    for a, b in zip(theirs._nodes, ours._nodes, strict=True):
        if a.label not in volatile:
            yield from _nodes(a, b, volatile, f"{path}.{a.label}".lstrip("."))


def _nodes(theirs: Any, ours: Any, volatile: frozenset[str], path: str) -> Iterator[Difference]:
    yield from differences(theirs.label, ours.label, volatile, f"{path}?label")
    yield from differences(theirs._value, ours._value, volatile, path)
    if theirs.attr != ours.attr:
        yield from _dicts(theirs.attr, ours.attr, volatile, f"{path}?")


def _dicts(theirs: Any, ours: Any, volatile: frozenset[str], path: str) -> Iterator[Difference]:
    for key in [*theirs, *(key for key in ours if key not in theirs)]:
        if key in volatile:
            continue
        at = f"{path}{'' if path[-1:] in ('', '?') else '.'}{key}"
        if key not in theirs or key not in ours:
            yield Difference(at, theirs.get(key, _absent), ours.get(key, _absent))
        else:
            yield from differences(theirs[key], ours[key], volatile, at)


def _lists(theirs: Any, ours: Any, volatile: frozenset[str], path: str) -> Iterator[Difference]:
    for at, (a, b) in enumerate(zip(theirs, ours, strict=False)):
        yield from differences(a, b, volatile, f"{path}[{at}]")
    if len(theirs) != len(ours):
        yield Difference(f"{path}?length", len(theirs), len(ours))
