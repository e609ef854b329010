"""Values of stores as bytes, so that what comes back is what was put in.

Before: _tracked encodes what is written and decodes what is restored. After: the host, which
looks into no value; a client, for which the same bytes are JSON. The twin of
protocol/store.md, section 1. Not here: data of pushes and events (_json), paths and records.
"""

from __future__ import annotations

import base64
import datetime
import functools
import json
import math
import pickle
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

from guado import _native

MOST_DEPTH = 64
_SAFE = 2**53 - 1

# What people try to keep, and what they can keep instead.
_INSTEAD = {
    "timedelta": "value.total_seconds()",
    "UUID": "str(value)",
    "bytearray": "bytes(value)",
    "OrderedDict": "dict(value)",
    "defaultdict": "dict(value)",
    "deque": "list(value)",
}


class _Missing:
    """What is not there, where None is a value."""

    def __repr__(self) -> str:
        return "guado.MISSING"

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


def _encode(value: Any) -> bytes:
    """The one form of `value`. TypeError and ValueError say what cannot be kept, and why."""
    try:
        return _text(value, 0).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half of a surrogate pair, which is no text") from error


def _text(value: Any, depth: int) -> str:
    plain = PLAIN.get(type(value))
    if plain is not None:
        return plain(value)
    if depth >= MOST_DEPTH:
        raise ValueError(f"a value is nested more than {MOST_DEPTH} deep, or holds itself")
    if isinstance(value, Pickled):
        return _tag("pickle", f'"{base64.b64encode(value.data).decode()}"')
    kind = getattr(type(value), "_plain", type(value))
    items = functools.partial(_texts, depth=depth + 1)
    if kind is list:
        return f"[{','.join(items(list.__iter__(value)))}]"
    if kind is tuple:
        return _tag("tuple", f"[{','.join(items(value))}]")
    if kind is set or kind is frozenset:
        members = sorted(items(kind.__iter__(value)), key=str.encode)
        return _tag(kind.__name__, f"[{','.join(members)}]")
    if kind is dict:
        return _dict(dict.items(value), depth + 1)
    raise _refused(value)


def _texts(values: Any, depth: int) -> list[str]:
    return [_text(value, depth) for value in values]


def _dict(items: Any, depth: int) -> str:
    pairs = list(items)
    if all(type(key) is str and key[:1] != "$" for key, _ in pairs):
        inside = (f"{encode_basestring(k)}:{_text(v, depth)}" for k, v in pairs)
        return f"{{{','.join(inside)}}}"
    both = (f"[{_text(k, depth)},{_text(v, depth)}]" for k, v in pairs)
    return _tag("dict", f"[{','.join(both)}]")


def _tag(name: str, inside: str, more: str = "") -> str:
    return f'{{"${name}":{inside}{more}}}'


def _refused(value: Any) -> TypeError:
    kind = type(value)
    for known in (*PLAIN, list, tuple, set, frozenset, dict):
        if known is not type(None) and issubclass(kind, known) and known not in (int, bool):
            return TypeError(
                f"{kind.__name__} is a kind of {known.__name__}, and would come back as a plain "
                f"one; keep {_INSTEAD.get(kind.__name__, f'{known.__name__}(value)')}"
            )
    instead = _INSTEAD.get(kind.__name__)
    hint = f"keep {instead}" if instead else "keep its parts, or opt into pickling for this store"
    return TypeError(f"a store cannot keep a {kind.__name__}; {hint}")


def _int(value: int) -> str:
    return repr(value) if -_SAFE <= value <= _SAFE else _tag("int", f'"{value:#x}"')


def _float(value: float) -> str:
    return repr(value) if math.isfinite(value) else _tag("float", f'"{value!r}"')


def _datetime(value: datetime.datetime) -> str:
    return _tag("datetime", f'"{value.isoformat()}"', _zone(value))


def _time(value: datetime.time) -> str:
    return _tag("time", f'"{value.isoformat()}"', _zone(value))


def _zone(value: datetime.datetime | datetime.time) -> str:
    more = ',"fold":1' if value.fold else ""
    zone = value.tzinfo
    if zone is None:
        return more
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return f',"zone":{encode_basestring(zone.key)}{more}'
    if type(zone) is datetime.timezone:
        plain = datetime.timezone(zone.utcoffset(None))
        if repr(plain.tzname(None)) == repr(zone.tzname(None)):
            return more
    raise TypeError(
        f"the zone {zone!r} would not come back as it is; use zoneinfo.ZoneInfo or datetime.UTC"
    )


# Types whose values have no parts.
PLAIN: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: _int,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
    float: _float,
    bytes: lambda value: _tag("bytes", f'"{base64.b64encode(value).decode()}"'),
    Decimal: lambda value: _tag("decimal", f'"{value}"'),
    datetime.datetime: _datetime,
    datetime.date: lambda value: _tag("date", f'"{value.isoformat()}"'),
    datetime.time: _time,
}


encode: Callable[[Any], bytes] = _native.store_encode or _encode


class Pickled:
    """An object that is kept by pickle. It may change without telling anybody: where it was
    read, its bytes are compared at the commit."""

    __slots__ = ("data", "value")

    def __init__(self, value: Any, data: bytes) -> None:
        self.value = value
        self.data = data  # as it was recorded last

    def now(self) -> bytes:
        return pickle.dumps(self.value, protocol=4)


_native.store_setup(
    text=_text,
    encode=_encode,
    pickled=Pickled,
    plain=(Decimal, datetime.datetime, datetime.date, datetime.time),
)


def pickled(value: Any) -> Pickled:
    return Pickled(value, pickle.dumps(value, protocol=4))


def decode(data: bytes, pickles: bool = False) -> Any:
    """What `encode` made of. ValueError: the bytes are no value."""
    hook = _untag_with_pickles if pickles else _untag
    try:
        return json.loads(data, object_hook=hook, parse_constant=_no_constant)
    except (TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"this is no value of a store: {error}") from error


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _untag(found: dict[str, Any], pickles: bool = False) -> Any:
    first = next(iter(found), "")
    if first[:1] != "$":
        return found
    if first == "$pickle":
        if not pickles:
            raise ValueError("a pickled object, in a store that has not opted in")
        data = base64.b64decode(found[first], validate=True)
        return Pickled(pickle.loads(data), data)
    read = _READ.get(first)
    if read is None:
        raise ValueError(f"unknown kind of value {first}")
    return read(found[first], found)


def _untag_with_pickles(found: dict[str, Any]) -> Any:
    return _untag(found, True)


def _with_zone(value: Any, found: dict[str, Any]) -> Any:
    if "zone" in found:
        value = value.replace(tzinfo=zoneinfo.ZoneInfo(found["zone"]))
    return value.replace(fold=1) if found.get("fold") else value


_READ: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "$int": lambda text, _: int(text, 16),
    "$float": lambda text, _: float(text),
    "$dict": lambda pairs, _: {key: value for key, value in pairs},  # noqa: C416
    "$tuple": lambda items, _: tuple(items),
    "$set": lambda items, _: set(items),
    "$frozenset": lambda items, _: frozenset(items),
    "$bytes": lambda text, _: base64.b64decode(text, validate=True),
    "$decimal": lambda text, _: Decimal(text),
    "$datetime": lambda text, found: _with_zone(datetime.datetime.fromisoformat(text), found),
    "$date": lambda text, _: datetime.date.fromisoformat(text),
    "$time": lambda text, found: _with_zone(datetime.time.fromisoformat(text), found),
}
