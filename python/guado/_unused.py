"""Whether anybody but its worker has a store, or a container of it, in hand.

Before: _state, which lets stores go that the host has, too. After: nothing. Not here: what is
in a store.

Counted as the garbage collector counts: all references to the store and its containers, less
those that they have of each other. One that is left is somebody's: a variable, the list of
stores that an exchange has touched, a wait for its lock.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from guado._locks import Lock
from guado._native import Slot
from guado._tracked import TrackedDict, TrackedList, TrackedSet
from guado.store import Changes, Store

_CONTAINERS = (TrackedDict, TrackedList, TrackedSet)
_PARTS = (*_CONTAINERS, Slot, Changes, Lock)


def _is_part(value: Any) -> bool:
    """Other values can be in many hands: nobody changes them."""
    if type(value) is tuple:
        return any(isinstance(one, _CONTAINERS) or _is_part(one) for one in value)
    return isinstance(value, _PARTS)


def unused(holder: list[Store]) -> bool:
    """Of the only store in a list, which alone refers to it."""
    if holder[0]._listeners or holder[0]._gate is not None:
        return False
    measure = object()  # referred to by nothing but what refers to all parts here
    parts: dict[int, Any] = {id(holder[0]): holder[0], id(measure): measure}
    inside = {id(holder[0]): 1, id(measure): 1}  # the list; the variable
    todo = [id(holder[0])]
    while todo:
        for part in gc.get_referents(parts[todo.pop()]):
            number = id(part)
            if number in inside:
                inside[number] += 1
            elif _is_part(part):
                parts[number] = part
                inside[number] = 1
                todo.append(number)
    part = None
    spare = {number: sys.getrefcount(one) - inside[number] for number, one in parts.items()}
    return all(count == spare[id(measure)] for count in spare.values())
