"""What a page's client is told of stores: changes that wait for it, and which paths are shared
with it.

Before: store, each of which has one; _shared. After: _writes, by which it is recorded as the
store is. The twin of protocol/store.md, sections 4 and 7. Not here: telling the client.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from guado import _records, _values
from guado._writes import _Planned

if TYPE_CHECKING:
    from guado.store import Store

Path = str | Sequence[str]


class Change(NamedTuple):
    """A change that a page's client is to hear of."""

    number: int
    data: bytes  # JSON: path, value, attributes, reason, fired, delete


class Share(NamedTuple):
    """A path of which a page's client is told."""

    kind: int  # of the store; 0: it is the page's own
    id: str
    path: tuple[str, ...]

    def text(self, more: dict[str, Any]) -> bytes:
        whose = {"kind": self.kind, "id": self.id} if self.kind else {}
        said = {"path": self.path, **whose, **more}
        return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


class Changes:
    """What a page's client is told: changes that wait for it, in order, and which paths are
    shared with it."""

    __slots__ = ("_gone", "_handed", "_shares", "_store", "_waiting")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gone = 0  # the number of the last one that is gone
        self._handed = 0  # of the last one that was handed out
        self._waiting: list[bytes] = []
        self._shares: dict[Share, bytes] = {}

    def __len__(self) -> int:
        self._store._enter()
        return len(self._waiting)

    def add(
        self,
        path: Path,
        value: Any = None,
        attributes: dict[str, Any] | None = None,
        reason: str | None = None,
        fired: bool = False,
        delete: bool = False,
    ) -> None:
        """One more. Not a write of the store: `path` is one of the client's."""
        keys = json.dumps(_records.path_of(path), ensure_ascii=False, separators=(",", ":"))
        parts = [b'{"path":' + keys.encode()]
        if not delete:
            parts.append(b'"value":' + _values.encode(value))
        if attributes:
            parts.append(b'"attributes":' + _values.encode(attributes))
        if reason is not None:
            parts.append(b'"reason":' + _values.encode(reason))
        parts += [b'"fired":true'] * fired + [b'"delete":true'] * delete
        data = b",".join(parts) + b"}"
        self._store._write(
            self._store._root,
            lambda: _Planned(
                [_records.change(data)],
                _records.ITEM + len(data),
                lambda: self._waiting.append(data),
                (),
                self._undo(),
            ),
        )

    def hand_out(self, keep: bool = False) -> list[Change]:
        """All that wait; they are gone with the commit of who takes them. `keep`: they are
        handed out again until `acknowledge` has their number."""
        taken: list[Change] = []

        def plan() -> _Planned | None:
            first = self._gone + 1
            taken[:] = [Change(first + i, data) for i, data in enumerate(self._waiting)]
            if not taken:
                return None
            self._handed = max(self._handed, taken[-1].number)
            return None if keep else self._planned(taken[-1].number)

        self._store._write(self._store._root, plan)
        return taken

    def acknowledge(self, number: int) -> None:
        """The client has all up to this number. ValueError: it never got that."""

        def plan() -> _Planned | None:
            if number > self._gone + len(self._waiting):
                raise ValueError(f"change {number} was never handed out")
            return self._planned(number) if number > self._gone else None

        self._store._write(self._store._root, plan)

    def _share(self, share: Share, write: bool, over: str) -> None:
        more: dict[str, Any] = {"write": True} if write else {}
        text = share.text(more if over == "session" else more | {"over": over})

        def plan() -> _Planned | None:
            before = self._shares.get(share)
            if before == text:
                return None
            cost = _records.cost_of_items([text]) - _records.cost_of_items(
                [] if before is None else [before]
            )
            return _Planned(
                [_records.share(text)],
                cost,
                lambda: self._shares.__setitem__(share, text),
                (),
                self._undo(),
            )

        self._store._write(self._store._root, plan)

    def _unshare(self, share: Share) -> None:
        def plan() -> _Planned | None:
            before = self._shares.get(share)
            if before is None:
                return None
            return _Planned(
                [_records.share(share.text({"off": True}))],
                -_records.cost_of_items([before]),
                lambda: self._shares.__delitem__(share),
                (),
                self._undo(),
            )

        self._store._write(self._store._root, plan)

    def _planned(self, number: int) -> _Planned:
        gone = self._waiting[: number - self._gone]
        cost = -_records.cost_of_items(gone)
        record = _records.drain(number)
        return _Planned([record], cost, lambda: self._forget(number), (), self._undo())

    # Below, the record lock is held.

    def _forget(self, number: int) -> None:
        del self._waiting[: max(0, number - self._gone)]
        self._gone = number

    def _drained(self, number: int) -> None:
        last = self._gone + len(self._waiting)
        if number < self._gone or number > last > 0:
            raise ValueError(f"change {number} of {last}")
        self._forget(number)

    def _undo(self) -> Callable[[], None]:
        gone, waiting, shares = self._gone, self._waiting.copy(), self._shares.copy()

        def undo() -> None:
            self._gone, self._waiting[:], self._shares = gone, waiting, shares

        return undo

    def _reset(self) -> None:
        self._gone = self._handed = 0
        self._waiting.clear()
        self._shares.clear()

    def _shared(self, text: bytes) -> None:
        said = json.loads(text)
        share = Share(said.get("kind", 0), said.get("id", ""), tuple(said["path"]))
        if not share.path:
            raise ValueError("it shares nothing that there can be")
        if said.get("off"):
            del self._shares[share]
        else:
            self._shares[share] = text

    def _weigh(self) -> int:
        return _records.cost_of_items(self._waiting) + _records.cost_of_items(self._shares.values())

    def _dump(self) -> Iterator[bytes]:
        if self._gone:
            yield _records.drain(self._gone)
        yield from map(_records.change, self._waiting)
        yield from map(_records.share, self._shares.values())
