"""Data of pushes, events and pages as JSON, and in words what cannot be JSON.

Before: push, pages, events, worker/pages. Not here: pickling, which executors do.
"""

from __future__ import annotations

import json
import math
from typing import Any

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

# What people try to send, and what they can send instead.
_INSTEAD = {
    "datetime": "value.isoformat()",
    "date": "value.isoformat()",
    "time": "value.isoformat()",
    "timedelta": "value.total_seconds()",
    "Decimal": "str(value) or float(value)",
    "UUID": "str(value)",
    "set": "a list of it",
    "frozenset": "a list of it",
    "bytes": "value.decode(), or base64 of it",
}
_decoder = json.JSONDecoder()


def decode(data: bytes) -> Any:
    """JSON that the host has checked: nothing stands before or behind it."""
    return _decoder.raw_decode(data.decode())[0]


def encode(value: Any, name: str = "data") -> bytes:
    """`value` as compact JSON. TypeError or ValueError names the first part that is none."""
    try:
        return _encoder.encode(value).encode()
    except (TypeError, ValueError, RecursionError):
        reason = _explain(value, name, set())
        if reason is None:
            raise
        raise reason from None


def _explain(value: Any, path: str, around: set[int]) -> Exception | None:
    """Why `value` is no JSON; `around`: the containers that it is in."""
    if value is None or isinstance(value, (bool, int)):
        return None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return ValueError(f"{path} holds half of a surrogate pair, which is no text")
        return None
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return ValueError(f"{path} is {value}: JSON has no such number")
    if not isinstance(value, (dict, list, tuple)):
        kind = type(value).__name__
        instead = _INSTEAD.get(kind)
        hint = f"; send {instead}" if instead else ""
        return TypeError(f"{path} is of type {kind}, which JSON does not have{hint}")
    if id(value) in around:
        return ValueError(f"{path} holds itself")
    if len(around) > 200:
        return ValueError(f"{path} is nested too deeply")
    around.add(id(value))
    reason = _explain_items(value, path, around)
    around.discard(id(value))
    return reason


def _explain_items(value: Any, path: str, around: set[int]) -> Exception | None:
    if isinstance(value, dict):
        for key, item in value.items():
            if key is not None and not isinstance(key, (str, int, float, bool)):
                kind = type(key).__name__
                return TypeError(
                    f"{path} has the key {key!r} of type {kind}: JSON has text for keys"
                )
            reason = _explain(key, f"a key of {path}", around) or _explain(
                item, f"{path}[{key!r}]", around
            )
            if reason is not None:
                return reason
        return None
    for i, item in enumerate(value):
        reason = _explain(item, f"{path}[{i}]", around)
        if reason is not None:
            return reason
    return None
