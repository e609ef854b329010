"""What clients have of stores, in memory: the changes that the host makes of each commit.

Before: _stores, whose commits come here. After: the client's end of a page (the package
itself). Not here: what may be written, which the worker's own code says. The twin of
protocol/store.md, section 7.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from guado import _records, _values
from guado._ledger import Batch, Taken
from guado.store import CONNECTION, PAGE, USER, Share, Store

Path = tuple[str, ...]

NAMES = {0: "page", USER: "user", CONNECTION: "connection"}


class Told(NamedTuple):
    """A change of what is shared, as a page's client hears of it."""

    path: Path
    value: Any  # what is there then; None where nothing is
    deleted: bool
    reason: str | None = None
    attributes: dict[str, Any] | None = None
    store: str = "page"  # or "user", or "connection"


class _Client:
    """Of one page."""

    def __init__(self) -> None:
        self.has: dict[tuple[str, Path], Any] = {}  # over its session, by what is shared
        self.told: list[Told] = []
        self.waiting: dict[tuple[Share, Path], tuple[int, dict[str, Any]]] = {}
        self.covered: set[Share] = set()  # is told of with a path above
        self.number = 0


class Sharing:
    """Of all pages. `stores` are those of the worker."""

    def __init__(self, stores: dict[tuple[int, str], Store]) -> None:
        self.stores = stores
        self.clients: dict[str, _Client] = {}

    def committed(self, taken: Taken) -> None:
        """Under the record lock, as every commit is made."""
        written = {(b.store.kind, b.store.id): _touches(b) for b in taken.batches}
        for (kind, id), touches in written.items():
            if kind == PAGE and any(record.op == _records.SHARE for record, _ in touches):
                self.clients.setdefault(id, _Client())
        for page, client in self.clients.items():
            own = self.stores.get((PAGE, page))
            if own is not None:
                self.tell(page, own, client, written)

    def tell(self, page: str, own: Store, client: _Client, written: dict[Any, Any]) -> None:
        new = {
            _share_of(record)
            for record, _ in written.get((PAGE, page), ())
            if record.op == _records.SHARE
        }
        for key in [k for k in client.has if not any(_key(s) == k for s in own.changes._shares)]:
            del client.has[key]
        shares = own.changes._shares
        covered = {share for share in shares if _covered(share, shares)}
        new |= client.covered - covered  # it has to be told of these by themselves now
        client.covered = covered
        for share, text in shares.items():
            of = (share.kind or PAGE, share.id or page)
            touched = {share.path: {}} if share in new else _below(written.get(of, ()), share.path)
            if not touched:
                continue
            store = self.stores.get(of)
            if share in covered:
                if _over(text) == "session":
                    client.has[_key(share)] = _at(store, share.path)
                continue
            if _over(text) == "requests":
                for path, said in touched.items():
                    client.number += 1
                    client.waiting.pop((share, path), None)
                    client.waiting[share, path] = (client.number, said)
                continue
            client.has[_key(share)] = _at(store, share.path)
            for path, said in touched.items():
                if share not in new and said.get("by") != page:
                    client.told.append(_told(share, path, store, said))

    def hand_out(self, page: str, ack: int | None) -> tuple[list[Told], int]:
        client = self.clients.get(page) or _Client()
        if ack is not None:
            if ack > client.number:
                raise ValueError(f"no change {ack} was ever handed out")
            client.waiting = {k: w for k, w in client.waiting.items() if w[0] > ack}
        out = [
            _told(share, path, self.stores.get((share.kind or PAGE, share.id or page)), said)
            for (share, path), (_, said) in client.waiting.items()
            if not any(s == share and p != path and p == path[: len(p)] for s, p in client.waiting)
        ]
        if ack is None:
            client.waiting = {}
        return out, client.number

    def get(self, page: str, path: Path, store: str) -> Any:
        """What the client has; KeyError: nothing."""
        client = self.clients.get(page) or _Client()
        for (name, shared), value in client.has.items():
            if name == store and path[: len(shared)] == shared:
                for key in path[len(shared) :]:
                    value = value[key]
                return value
        raise KeyError(path)


def _key(share: Share) -> tuple[str, Path]:
    return NAMES[share.kind], share.path


def _share_of(record: _records.Record) -> Share:
    said = json.loads(record.items[0])
    return Share(said.get("kind", 0), said.get("id", ""), tuple(said["path"]))


def _over(text: bytes) -> str:
    over: str = json.loads(text).get("over", "session")
    return over


def _covered(one: Share, shares: dict[Share, bytes]) -> bool:
    """Whether changes there come with those of a path above."""
    return any(
        s != one
        and s[:2] == one[:2]
        and one.path[: len(s.path)] == s.path
        and _over(text) == _over(shares[one])
        for s, text in shares.items()
    )


def _touches(batch: Batch) -> list[tuple[_records.Record, dict[str, Any]]]:
    """Its records, each with what is said of it."""
    out, note = [], {"n": 0}
    for record in _records.read(batch.data):
        if record.op == _records.NOTE:
            note = _values.decode(record.items[0])
            continue
        out.append((record, note if note["n"] > 0 else {}))
        note["n"] -= 1
    return out


def _below(
    touches: list[tuple[_records.Record, dict[str, Any]]], shared: Path
) -> dict[Path, dict[str, Any]]:
    """The highest paths that were written, as far as they are shared."""
    paths: dict[Path, dict[str, Any]] = {}
    for record, said in touches:
        if record.op < _records.CHANGE:
            n = min(len(record.path), len(shared))
            if record.path[:n] == shared[:n]:
                path = record.path if n == len(shared) else shared
                before = paths.get(path, said)
                mixed = {**said, "by": None} if before.get("by") != said.get("by") else said
                paths[path] = mixed
    return {p: said for p, said in paths.items() if not any(q in paths for q in _above(p))}


def _above(path: Path) -> Iterator[Path]:
    return (path[:n] for n in range(len(path)))


def _at(store: Store | None, path: Path) -> Any:
    """A plain copy of what is there."""
    value: Any = None if store is None else store._root
    for key in path:
        value = dict.get(value, key) if isinstance(value, dict) else None
    return _values.decode(_values.encode(value))


def _told(share: Share, path: Path, store: Store | None, said: dict[str, Any]) -> Told:
    above = _at(store, path[:-1]) if path[:-1] else None if store is None else store._root
    there = isinstance(above, dict) and dict.__contains__(above, path[-1])
    reason, attributes = said.get("reason"), said.get("attributes")
    return Told(path, _at(store, path), not there, reason, attributes, NAMES[share.kind])
