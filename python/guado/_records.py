"""Records of stores, as they travel in a commit, and back.

Before: _tracked and store make them, store reads snapshots. After: the host's mirror. The twin
of protocol/store.md, sections 2 to 5. Not here: values (_values), whose records travel
with which commit (_ledger).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from guado import _native

SET, CLEAR, DELETE, LIST, APPEND, REPLACE, CHANGE, DRAIN, VERIFY, SHARE, NOTE = range(1, 12)

MOST_KEYS = 32
MOST_KEY = 512

# The account: what a dict or leaf costs beside key and bytes, and an item or change.
NODE = 32
ITEM = 16

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

Path = tuple[str, ...]


def path_of(path: str | Sequence[str]) -> Path:
    """The keys of a path, dotted or a tuple."""
    keys = tuple(path.split(".")) if isinstance(path, str) else tuple(path)
    if isinstance(path, str) and "" in keys:
        raise ValueError(f"the path {path!r} has an empty key; a key with a dot needs a tuple")
    if not keys:
        raise ValueError("a path has at least one key")
    return keys


@functools.lru_cache(4096)
def key_bytes(key: str) -> bytes:
    """A key with its length. TypeError or ValueError where a node cannot have it."""
    if type(key) is not str:
        raise TypeError(
            f"keys of a store are text, and {key!r} is of type {type(key).__name__}; use "
            "str(key), or keep the dict inside of a list"
        )
    try:
        data = key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the key {key!r} holds half of a surrogate pair") from error
    if len(data) > MOST_KEY:
        raise ValueError(f"a key of {len(data)} bytes is too long: at most {MOST_KEY} are allowed")
    return _U16.pack(len(data)) + data


def path_bytes(keys: Sequence[str]) -> bytes:
    if len(keys) > MOST_KEYS:
        raise ValueError(f"a path of {len(keys)} keys is too long: at most {MOST_KEYS} are allowed")
    return bytes((len(keys),)) + b"".join(map(key_bytes, keys))


def leaf(path: bytes, data: bytes) -> bytes:
    return b"\x01" + path + _U32.pack(len(data)) + data


def clear(path: bytes) -> bytes:
    return b"\x02" + path


def delete(path: bytes) -> bytes:
    return b"\x03" + path


def whole(path: bytes, items: Sequence[bytes]) -> bytes:
    return b"\x04" + path + _items(items)


def append(path: bytes, items: Sequence[bytes]) -> bytes:
    return b"\x05" + path + _items(items)


def replace(path: bytes, at: int, removed: int, items: Sequence[bytes]) -> bytes:
    return b"\x06" + path + _U32.pack(at) + _U32.pack(removed) + _items(items)


def change(data: bytes) -> bytes:
    return b"\x07\x00" + _U32.pack(len(data)) + data


def drain(number: int) -> bytes:
    return b"\x08\x00" + _U64.pack(number)


def verify(snapshot: bytes) -> bytes:
    """How the store is behind the records of this commit: for the host to compare."""
    return b"\x09\x00" + _U32.pack(len(snapshot)) + snapshot


def share(data: bytes) -> bytes:
    return b"\x0a\x00" + _U32.pack(len(data)) + data


def note(records: int, said: bytes) -> bytes:
    """What is said of the next records; `said` are the further members of a JSON object."""
    data = b'{"n":%d,%s}' % (records, said)
    return b"\x0b\x00" + _U32.pack(len(data)) + data


def _items(items: Sequence[bytes]) -> bytes:
    return _U32.pack(len(items)) + b"".join(_U32.pack(len(i)) + i for i in items)


class Record(NamedTuple):
    op: int
    path: Path
    items: Sequence[bytes] = ()  # of SET, CHANGE, SHARE and NOTE: one
    at: int = 0  # of DRAIN: the number
    removed: int = 0


_native.store_setup(record=Record)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise ValueError("records end early")
        self.at += count
        return part

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def path(self) -> Path:
        count = self.take(1)[0]
        if count > MOST_KEYS:
            raise ValueError(f"a path of {count} keys")
        keys = []
        for _ in range(count):
            size = int.from_bytes(self.take(2), "little")
            if size > MOST_KEY:
                raise ValueError(f"a key of {size} bytes")
            keys.append(self.take(size).decode())
        return tuple(keys)

    def items(self) -> list[bytes]:
        return [self.take(self.u32()) for _ in range(self.u32())]


def read(data: bytes) -> Iterable[Record]:
    """The records in `data`. ValueError: they are not what was written."""
    return (_native.store_read or _read)(data)


_KNOWN = frozenset({*range(SET, VERIFY), SHARE, NOTE})


def _read(data: bytes) -> Iterator[Record]:
    reader = _Reader(data)
    while reader.at < len(data):
        op = reader.take(1)[0]
        path = reader.path()
        if op not in _KNOWN:
            raise ValueError(f"unknown record {op}")
        if bool(path) == (op >= CHANGE) and op != CLEAR:
            raise ValueError(f"record {op} with a path of {len(path)} keys")
        if op in (SET, CHANGE, SHARE, NOTE):
            yield Record(op, path, (reader.take(reader.u32()),))
        elif op in (LIST, APPEND):
            yield Record(op, path, reader.items())
        elif op == REPLACE:
            at, removed = reader.u32(), reader.u32()
            yield Record(op, path, reader.items(), at, removed)
        elif op == DRAIN:
            yield Record(op, path, (), _U64.unpack(reader.take(8))[0])
        else:
            yield Record(op, path)


def cost_of_node(key: str) -> int:
    return NODE + len(key_bytes(key)) - 2


def cost_of_items(items: Iterable[bytes]) -> int:
    return sum(ITEM + len(item) for item in items)
