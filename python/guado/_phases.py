"""Steps between phases, on the side of the worker: items come out of the register of before,
or go back into it, while no request runs.

Before: boot, once the applications are imported. After: the host (verbs phase.enter, .entered,
.leave and .left; protocol/link.md, section 12), which decides when. Not here: what a register
is (register, adapters.genropy).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

import guado
from guado import _calls, _host, _remote, _state, _values, register, registry
from guado.errors import HostError, of_code
from guado.register import Item, Register
from guado.store import CONNECTION, PAGE, USER

_log = logging.getLogger("guado")

# In this order they can be made: a page belongs to a connection, that to a user.
_KINDS = {"user": USER, "connection": CONNECTION, "page": PAGE}

# Items whose stores travel in one commit.
_TOGETHER = 100

_nothing: Any = object()


class Done(NamedTuple):
    """What became of the items of one register."""

    items: int
    refused: list[str]
    differences: list[str]

    def encode(self, error: str = "") -> bytes:
        return json.dumps({**self._asdict(), "error": error}).encode()


class Step(NamedTuple):
    """How the items of one register are taken over, and given back."""

    take: Callable[[], Done]
    give: Callable[[], Done]


_lock = threading.Lock()  # guards what follows
_steps: list[Step] = []
_waiting = False
_ending = False
_asked: _host.Reply[dict[str, Any]] | None = None  # whether to give all back


def add(step: Step) -> None:
    """From here on the items of a register are given back when the host says so."""
    with _lock:
        _steps.append(step)
    worker = guado._worker
    if worker is not None and worker.serves:
        begin()


def begin() -> None:
    """The worker serves from here on. A call that is open for as long as that, made before,
    would keep it from beginning: who waits then reads the link."""
    global _waiting
    with _lock:
        first, _waiting = bool(_steps) and not _waiting, _waiting or bool(_steps)
    if first:
        threading.Thread(target=_leave, name="guado-register", daemon=True).start()


def enter() -> str:
    """Comes into the phase, when the host lets it. Gives why it cannot."""
    try:
        take = _ask("phase.enter", b"{}").get("take")
    except HostError as refusal:
        return str(refusal)
    if not take:
        return ""
    done, error = _all(lambda step: step.take())
    _flush()
    if _steps:
        _ask("phase.entered", done.encode(error))
    if not error and done.differences:
        error = f"{len(done.differences)} differences behind the copy: {done.differences[0]}"
    return error


def end() -> None:
    """The worker is on its way out: nobody asks it any more."""
    global _ending
    with _lock:
        _ending = True
        asked = _asked
    if asked is not None:
        asked.cancel()


def _leave() -> None:
    """The thread that gives all back."""
    global _asked
    try:
        while True:
            asked = _start("phase.leave", b"{}")
            # It may be answered in days: a thread that waits so long must not be the link's
            # reader, for whose end the worker waits before it serves.
            asked._read = None
            with _lock:
                _asked = asked
                if _ending:
                    asked.cancel()
            if not asked.result().get("give"):
                return
            done, error = _all(lambda step: step.give())
            _ask("phase.left", done.encode(error))
    except (CancelledError, HostError, OSError) as error:
        _log.debug("nobody will ask for the items any more: %r", error)


def _all(do: Callable[[Step], Done]) -> tuple[Done, str]:
    with _lock:
        steps = list(_steps)
    all = Done(0, [], [])
    for step in steps:
        try:
            one = do(step)
        except Exception as error:
            _log.exception("the register of before")
            return all, f"the register of before raised {error!r}"
        all = Done(
            all.items + one.items, all.refused + one.refused, all.differences + one.differences
        )
    return all, ""


def _ask(verb: str, data: bytes) -> dict[str, Any]:
    """As _host.ask_now, in every phase."""
    return _start(verb, data).result()


def _start(verb: str, data: bytes) -> _host.Reply[dict[str, Any]]:
    reply: _host.Reply[dict[str, Any]] = _host.Reply()

    def settle(future: Any, status: int, code: str, text: bytes) -> None:
        if future.set_running_or_notify_cancel():
            _host._settle(future, dict, of_code, status, code, text)

    _calls.shared().start(_calls.HOST, verb, data, reply, settle)
    return reply


# ---- a register of an application


def plain(name: str, of: Register) -> Step:
    """The steps of a register that an application names."""
    return Step(lambda: _take(of), lambda: _give(name, of))


def _take(of: Register) -> Done:
    items = sorted(_items(of), key=lambda item: list(_KINDS).index(item.kind))
    refused: list[str] = []
    put: list[Item] = []
    for start in range(0, len(items), _TOGETHER):
        _put(items[start : start + _TOGETHER], put, refused)
        _flush()
    kept = {(item.kind, item.id): item for item in _kept(kinds(of))}
    return Done(len(put), refused, list(_compare({(i.kind, i.id): i for i in put}, kept)))


def _give(name: str, of: Register) -> Done:
    _flush()
    given = list(_kept(kinds(of)))
    of.replace(given)
    there = {(item.kind, item.id): item for item in _items(of)}
    here = {(item.kind, item.id): item for item in given}
    differences = list(_compare(here, there))
    differences += [f"{kind} {id}: not one of those given" for kind, id in there.keys() - here]
    return Done(len(given), [], differences)


def kinds(of: Register) -> tuple[str, ...]:
    """The kinds of items that a register keeps, in the order in which they can be made."""
    named = getattr(of, "kinds", register.KINDS)
    if isinstance(named, str) or not named or (unknown := set(named) - set(_KINDS)):
        wrong = named if isinstance(named, str) or not named else sorted(unknown)
        raise TypeError(
            f"the register {of!r} names kinds of items by {wrong!r}: "
            f"there are {', '.join(register.KINDS)}"
        )
    return tuple(kind for kind in _KINDS if kind in named)


def _items(of: Register) -> Iterator[Item]:
    """What a register has. ValueError where that is of a kind that it does not keep."""
    mine = kinds(of)
    for item in of.items():
        if item.kind not in mine:
            raise ValueError(f"the register has {item}: its kinds are {', '.join(mine)}")
        yield item


def _flush() -> None:
    state = _state.current()
    if isinstance(state, _state.WorkerState):
        state.flush_outside()


def _put(items: list[Item], put: list[Item], refused: list[str]) -> None:
    """Makes items and their stores. All is asked for before anything is waited for: the host
    answers the calls of a worker in their order."""
    made = []
    for item in items:
        try:
            made.append((item, _create(item), _start("store.open", _ref(item))))
            if item.kind == "page":
                registry.pages.touch(item.id)  # its client has come long ago; nobody waits for it
        except Exception as error:
            refused.append(f"{item}: {error}")
    for item, created, opened in made:
        try:
            _settle(item, created)
            opened.result()
            store = _state.current().store(_KINDS[item.kind], _store_id(item.kind, item.id))
            if len(store):
                store.clear()
            store.update(dict(item.data))
            put.append(item)
        except Exception as error:
            refused.append(f"{item}: {error}")


def _create(item: Item) -> _host.Reply[Any]:
    told = _told(item)
    if item.kind == "page":
        told["connection"] = item.connection
    reply: _host.Reply[Any] = getattr(registry, f"{item.kind}s").create(item.id, **told)
    return reply


def _settle(item: Item, created: _host.Reply[Any]) -> None:
    """There may be one of this name, of a client that came by itself."""
    try:
        created.result()
    except HostError as error:
        if error.code != "exists":
            raise
        getattr(registry, f"{item.kind}s").update(item.id, **_told(item)).result()


def _told(item: Item) -> dict[str, Any]:
    told: dict[str, Any] = {"fields": dict(item.fields)}
    if item.kind == "connection":
        told["user"] = item.user
    return told


def _ref(item: Item) -> bytes:
    id = _store_id(item.kind, item.id)
    return json.dumps({"kind": _KINDS[item.kind], "id": id}).encode()


def _store_id(kind: str, id: str) -> str:
    return f"u:{id}" if kind == "user" else id


def _kept(kinds: Collection[str] = tuple(_KINDS)) -> Iterator[Item]:
    """All items of these kinds, as the host has them."""
    for kind, number in _KINDS.items():
        if kind not in kinds:
            continue
        items = getattr(registry, f"{kind}s").list().result()
        for start in range(0, len(items), _TOGETHER):
            some = items[start : start + _TOGETHER]
            data = [_read(number, _store_id(kind, item.id)) for item in some]
            for item, read in zip(some, data, strict=True):
                yield Item(
                    kind,
                    item.id,
                    item.user if kind == "connection" else None,
                    item.connection if kind == "page" else None,
                    item.fields,
                    _data(read),
                )


def _read(kind: int, id: str) -> _host.Reply[dict[str, Any]]:
    reply: _host.Reply[dict[str, Any]] = _host.Reply()
    body = _remote.RemoteStore(kind, id, id)._body(b'"path":[]')
    _host.ask("store.read", body, reply, dict, error_of=_remote._error)
    return reply


def _data(read: _host.Reply[dict[str, Any]]) -> dict[str, Any]:
    """What is in the host's copy of a store."""
    try:
        found = read.result()
    except HostError:
        return {}  # nothing has ever been in it
    data: dict[str, Any] = _remote._plain(found["value"]) if found["found"] else {}
    return data


def _compare(
    wanted: dict[tuple[str, str], Item], found: dict[tuple[str, str], Item]
) -> Iterator[str]:
    """What of the items that are wanted is another thing, or not there."""
    for key, item in wanted.items():
        other = found.get(key)
        if other is None:
            yield f"{item}: it is not there"
            continue
        for part in ("user", "connection"):
            if getattr(item, part) != getattr(other, part):
                yield f"{item}: {part}: {getattr(item, part)!r}, and {getattr(other, part)!r}"
        yield from differences(dict(item.fields), dict(other.fields), f"{item}: fields")
        yield from differences(dict(item.data), dict(other.data), f"{item}: data")


def differences(a: Any, b: Any, path: str) -> Iterator[str]:
    """Where two values differ, each with its path."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            yield from differences(a.get(key, _nothing), b.get(key, _nothing), f"{path}.{key}")
    elif type(a) is list and type(b) is list and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{path}[{i}]")
    elif a is _nothing or b is _nothing:
        there, where = (b, "there") if a is _nothing else (a, "here")
        yield f"{path}: {_short(there)} only {where}"
    elif _values.encode(a) != _values.encode(b):
        yield f"{path}: {_short(a)}, and {_short(b)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def named(target: str) -> Register:
    """The register that "module:object" names; what makes one is called."""
    import importlib

    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if isinstance(found, type) or not hasattr(found, "items"):
        found = found()
    if not (callable(getattr(found, "items", None)) and callable(getattr(found, "replace", None))):
        raise TypeError(f"{target} is {found!r}, which has not both items() and replace(items)")
    made: register.Register = found
    kinds(made)
    return made
