"""What a page's client has of stores: what is shared with it, and what it writes there.

Before: push.PageHandle; worker/pages, when a client writes. After: the page's own store, which
keeps what is shared (protocol/store.md, section 7). Not here: telling the client, which the
host does from what commits have changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from guado import _json, _records, _request, _state, _values
from guado._locks import LockTimeout
from guado.errors import PageError
from guado.store import (
    CONNECTION,
    PAGE,
    USER,
    Share,
    Store,
    StoreError,
    StoreFull,
    StoreGone,
    transaction,
)

MOST = 1000  # writes of a client at once

_KINDS = {"connection": CONNECTION, "user": USER}
_nothing: Any = object()


class ClientWrite(NamedTuple):
    """What a page's client wants to write."""

    path: tuple[str, ...]
    value: Any  # None where it deletes
    deleted: bool
    store: Store


class ClientWrites(list[ClientWrite]):
    """All that it wants to write at once."""

    def __init__(self, changes: Iterable[ClientWrite], own: Store) -> None:
        super().__init__(changes)
        self._own = own

    def after(
        self, path: str | Sequence[str], default: Any = None, *, store: Store | None = None
    ) -> Any:
        """What is at a path (of the page's store, or of another one that it shares) once all of
        this is written: a copy. It does not matter whether the client writes the path, one above
        or one below it, deletes it or leaves it as it is."""
        of = self._own if store is None else store
        keys = _records.path_of(path)
        tree: dict[str, Any] = {}
        found = of.get(keys[:1], _nothing)
        if found is not _nothing:
            tree[keys[0]] = _copy(found, of)
        for one in self:
            if one.store is of and one.path[0] == keys[0]:
                _put(tree, one)
        at: Any = tree
        for key in keys:
            if not isinstance(at, dict) or key not in at:
                return default
            at = at[key]
        return at


def _copy(value: Any, store: Store) -> Any:
    return _values.decode(_values.encode(value), store.pickles)


def _put(tree: dict[str, Any], one: ClientWrite) -> None:
    at: Any = tree
    for key in one.path[:-1]:
        if one.deleted and key not in at:
            return
        at = at.setdefault(key, {})
        if not isinstance(at, dict):
            raise PageError("bad_change", f"what is at {key} of {'.'.join(one.path)} is no dict")
    if one.deleted:
        at.pop(one.path[-1], None)
    else:
        at[one.path[-1]] = _copy(one.value, one.store)


def share(
    page: str, path: str | Sequence[str], store: Store | None, write: bool, over: str
) -> None:
    if over not in ("session", "requests"):
        raise ValueError(f'what is shared is told over="session" or "requests", not {over!r}')
    own, what = _named(page, path, store)
    own.changes._share(what, write, over)


def unshare(page: str, path: str | Sequence[str], store: Store | None) -> None:
    own, what = _named(page, path, store)
    own.changes._unshare(what)


def _named(page: str, path: str | Sequence[str], store: Store | None) -> tuple[Store, Share]:
    own = _state.page_store(page)
    keys = _records.path_of(path)
    _records.path_bytes(keys)  # says what is wrong with it
    if not isinstance(own, Store) or not (store is None or isinstance(store, Store)):
        raise StoreError(
            f"what {own.name} shares is said in the group with state = true, whose worker has "
            "the store"
        )
    if store is None or store is own:
        return own, Share(0, "", keys)
    if store.kind == PAGE or not _of_one(store, own):
        raise ValueError(
            f"{own.name} can share its own store and those of its user and connection, not that "
            f"of {store.name}; after a login it can from the next request on"
        )
    return own, Share(store.kind, store.id, keys)


def _of_one(store: Store, own: Store) -> bool:
    """Whether both are of one user. What this worker had of a guest who has logged in since
    keeps the guest's name here, until the host sends it anew."""
    names = {store.owner.name, own.owner.name}
    here = _request.current()
    if len(names) == 1 or here is None or not here.user:
        return len(names) == 1
    return names == {f"g:{here.connection}", f"u:{here.user}"}


def wanted(page: str, data: bytes) -> tuple[ClientWrites, bytes]:
    """What a client wants to write, and what is said of it in the commit. PageError: it may
    not."""
    try:
        said = _values.decode(data)
        message = int(said["as"])
        asked = [_read(one) for one in said["changes"]]
    except (TypeError, KeyError, ValueError) as error:
        raise PageError("bad_change", f"the changes cannot be read: {error}") from None
    if len(asked) > MOST:
        raise PageError("bad_change", f"{len(asked)} changes at once, where {MOST} are allowed")
    own = _state.page_store(page)
    if not isinstance(own, Store):
        raise PageError("not_shared", "nothing can be written here")
    changes = ClientWrites((_allowed(own, *one) for one in asked), own)
    by = b'"by":%s' % _json.encode(own.id)
    return changes, by + b',"as":%d' % message if message else by


def _read(one: dict[str, Any]) -> tuple[int, tuple[str, ...], Any, bool]:
    deleted = one.get("delete") is True if isinstance(one, dict) else False
    if not isinstance(one, dict) or "path" not in one or ("value" in one) is deleted:
        raise ValueError('each has a "path" and either a "value" or "delete": true')
    path = one["path"]
    keys = _records.path_of(path if isinstance(path, str) else list(path))
    _records.path_bytes(keys)
    name = one.get("store", "page")
    if name != "page" and name not in _KINDS:
        raise ValueError('the "store" of a change is "page", "connection" or "user"')
    kind = _KINDS.get(name, 0)
    return kind, keys, None if deleted else one["value"], deleted


def _allowed(
    own: Store, kind: int, keys: tuple[str, ...], value: Any, deleted: bool
) -> ClientWrite:
    """Where the page's client may write there."""
    for one, text in list(own.changes._shares.items()):
        if one.kind == kind and keys[: len(one.path)] == one.path and _writable(text):
            try:
                store = _state.current().store(kind, one.id) if kind else own
            except LookupError:
                continue
            if _of_one(store, own):
                return ClientWrite(keys, value, deleted, store)
    raise PageError("not_shared", f"the page may not write {'.'.join(keys)}")


def _writable(text: bytes) -> bool:
    return _json.decode(text).get("write") is True


def write(changes: list[ClientWrite], by: bytes) -> None:
    """All of it, or nothing."""
    stores = {one.store for one in changes}
    if not stores:
        return
    undone: list[Callable[[], None]] = []
    try:
        with transaction(*stores):
            try:
                for one in changes:
                    undone.append(_before(one.store, one.path))
                    _do(one, by)
            except BaseException:
                for undo in reversed(undone):
                    undo()  # says nothing of who did it: the client has to hear how it is
                raise
    except StoreFull as error:
        raise PageError("store_full", str(error)) from None
    except StoreGone as error:
        raise PageError("not_shared", str(error)) from None
    except LockTimeout as error:
        raise PageError("busy", str(error)) from None
    except (TypeError, ValueError) as error:
        raise PageError("bad_change", str(error)) from None


def _do(one: ClientWrite, by: bytes) -> None:
    store = one.store
    store._enter(write=True)
    if one.deleted:
        with contextlib.suppress(KeyError):  # it is gone already
            store._remove(store._holder(one.path), one.path[-1], note=by)
    else:
        store._put_at(one.path, one.value, note=by)


def _before(store: Store, path: tuple[str, ...]) -> Callable[[], None]:
    """What makes it be as it is now."""
    at: Any = store.root
    for n, key in enumerate(path):
        found = at.get(key, _nothing) if isinstance(at, dict) else _nothing
        if found is _nothing:
            top = path[: n + 1]
            return lambda: None if top not in store else store.__delitem__(top)
        at = found
    data = _values.encode(at)
    return lambda: store.__setitem__(path, _values.decode(data, store.pickles))
