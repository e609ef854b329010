"""Runs the turns of pages: a hidden application beside each of the worker's.

Before: guado._core calls it with what TURN says (protocol/link.md, section 13), and sends
what it returns: the body of the answer, or status, body and a failure for the log. After:
the handler of a page class, or a function that hears events. Not here: whose turn it is,
which the host decides; a page's handlers never run at once, but for those that are marked
so.

One story (`_steps`) for both kinds: it yields what is to be called or waited for, and a
WSGI thread or an ASGI task does that its own way.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import json
import struct
import threading
from collections.abc import Callable, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from guado import _declared, _host, _json, _request, _state, events
from guado._futures import Future
from guado.errors import HostError, PageError
from guado.pages import Page, PageRequest, is_concurrent
from guado.worker.errors import BootFailed, blame

if TYPE_CHECKING:
    from guado.worker.handshake import Hello

WARNING = 2  # a level of Link.log

Step = Callable[[], Any] | Future[None]


def prepare(hello: Hello) -> None:
    """After the import: gives the hidden applications their kinds and callables, lets the
    others know the request that they serve, and tells the host what there is to call."""
    kinds = {app.name: app.kind for app in hello.apps if not app.pages}
    refuse_async(kinds)
    for app in hello.apps:
        if app.pages:
            app.kind, app.lifespan = kinds[app.pages], "off"
            app.callable = application(app.kind, app.pages)
        elif app.callable is not None:
            app.callable = _request.around(app.kind, app.callable)
    mine = {app.pages for app in hello.apps}
    try:
        _host.ask_now("worker.declares", _declares(mine))
    except HostError as error:
        hello.link.log(WARNING, f"the host does not take what this worker declares: {error}")

    def tell() -> None:
        reply: _host.Reply[None] = _host.Reply()
        _host.ask("worker.declares", _declares(mine), reply, _host.nothing)

    with _declared.lock:
        _declared.tell = tell


def refuse_async(kinds: dict[str, str]) -> None:
    """Now that the kinds of applications are known: BootFailed for handlers without a loop."""
    with _declared.lock:
        _declared.kinds.update(kinds)
    app = ""
    try:
        for one in _declared.classes.values():
            app = one.app
            _declared.refuse_async(app, one.handlers(), f"page class {one.where}")
        for listener in _declared.listeners:
            app = listener.app
            what = f"{listener.where}, which hears {listener.topic!r}"
            _declared.refuse_async(app, (listener.function,), what)
    except TypeError as error:
        raise BootFailed("kind", app, str(error)) from error


def _declares(mine: set[str]) -> bytes:
    """What there is to call in the applications that have a hidden one."""
    with _declared.lock:
        classes = [(name, one) for name, one in _declared.classes.items() if one.app in mine]
        topics = dict.fromkeys((one.app, one.topic) for one in _declared.listeners)
    return json.dumps(
        {
            "classes": [
                {
                    "name": name,
                    "app": one.app,
                    "concurrent": [
                        name
                        for name in _declared.HANDLERS
                        if is_concurrent(getattr(one.type, name, None))
                    ],
                    "events": hasattr(one.type, "on_event"),
                }
                for name, one in classes
            ],
            "topics": [{"app": app, "topic": topic} for app, topic in topics if app in mine],
        }
    ).encode()


# What a class leaves as it is.
_BARE = frozenset({Page.on_open, Page.on_message, Page.on_snapshot, Page.on_close})


# ---- the story of a turn


class _Entry:
    """A page's object, and until its on_open has come to its end, who waits for that."""

    __slots__ = ("opening", "page")

    def __init__(self, page: Page) -> None:
        self.page = page
        self.opening: Future[None] | None = Future()


_lock = threading.Lock()  # guards _objects
_objects: dict[str, _Entry] = {}


class _Turn:
    """What the host asks for. Most turns need only what comes first."""

    __slots__ = ("connection", "data", "do", "handle", "opened", "page", "raw", "rest", "user")

    def __init__(
        self,
        do: str,
        opened: bool,
        page: str,
        user: str | None,
        connection: str,
        data: bytes,
        rest: bytes,
        handle: Any = None,
    ) -> None:
        self.do = do
        self.opened = opened
        self.page = page
        self.user = user
        self.connection = connection
        self.raw = data
        self.data = _json.decode(data) if data and do != "write" else None
        self.rest = rest
        self.handle = handle  # by which guado._core knows its answer

    def more(self) -> tuple[str, dict[str, Any], str, str]:
        """Class, arguments, topic and reason."""
        parts, at = [], 0
        while at < len(self.rest):
            (n,) = _LENGTH.unpack_from(self.rest, at)
            at += _LENGTH.size
            parts.append(self.rest[at : at + n])
            at += n
        cls, args, topic, why = parts
        return cls.decode(), _json.decode(args) if args else {}, topic.decode(), why.decode()


_LENGTH = struct.Struct("<I")


def _steps(app: str, turn: _Turn) -> Generator[Step, Any, Any]:
    """Runs one turn; what it returns is the client's answer."""
    if turn.do == "on":
        return (yield from _hear(app, turn.more()[2], turn.data))
    if turn.do == "close" and not turn.more()[3]:
        with _lock:
            _objects.pop(turn.page, None)
        _state.rest(turn.page)
        return None
    here = _request.Turn(turn.page, turn.user, turn.connection, turn.handle)
    _request.enter(here)
    if turn.do == "write":
        return (yield from _write(turn, here))
    entry = yield from _object(turn)
    page = entry.page
    here.alone = not is_concurrent(getattr(page, _handler(turn.do), None))
    page.user, page.connection = turn.user, turn.connection
    match turn.do:
        case "message" | "request":
            return (yield functools.partial(page.on_message, turn.data))
        case "snapshot":
            return (yield page.on_snapshot)
        case "http":
            on_request = getattr(page, "on_request", None)
            if on_request is None:
                raise PageError("no_handler", "this page takes no requests")
            return (yield functools.partial(on_request, PageRequest(**(turn.data or {}))))
        case "event":
            on_event = getattr(page, "on_event", None)
            if on_event is None:
                raise PageError("no_handler", "this page hears no events")
            yield functools.partial(on_event, turn.more()[2], turn.data)
        case "close":
            try:
                yield functools.partial(page.on_close, turn.more()[3])
            finally:
                _drop(turn.page, entry)
    return None


def _write(turn: _Turn, here: _request.Turn) -> Generator[Step, Any, None]:
    """Writes what the page's client wants to, unless its class refuses."""
    from guado import _shared

    here.alone = True
    changes, by = yield functools.partial(_shared.wanted, turn.page, turn.raw)
    one = _declared.classes.get(turn.more()[0])
    if one is not None and hasattr(one.type, "on_write"):
        entry = yield from _object(turn)
        page: Any = entry.page
        page.user, page.connection = turn.user, turn.connection
        yield functools.partial(page.on_write, changes)
    yield functools.partial(_shared.write, changes, by)


def _hear(app: str, topic: str, data: Any) -> Generator[Step, Any, None]:
    """Calls all functions of the application that hear the topic, though one fails."""
    failures = []
    for one in list(_declared.listeners):
        if one.app == app and events.matches(one.topic, topic):
            try:
                yield functools.partial(one.function, topic, data)
            except Exception as error:
                blame(error, f"{one.where}, which hears {topic!r}")
                failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup(f"functions that hear {topic!r} failed", failures)


def _object(turn: _Turn) -> Generator[Step, Any, _Entry]:
    """The page's object; one that is not there is made, and opened."""
    id, opened = turn.page, turn.opened
    anew = turn.do == "open" and not opened
    with _lock:
        entry = _objects.get(id)
        make = entry is None or anew
        if entry is None or anew:
            entry = _objects[id] = _Entry(_bare(turn))
    opening = entry.opening
    if not make:
        if opening is not None:
            yield opening
        return entry
    assert opening is not None
    restore = getattr(entry.page, "on_restore", None) if opened else None
    try:
        if type(entry.page).__init__ is not object.__init__:
            yield entry.page.__init__  # type: ignore[misc]
        yield restore or functools.partial(entry.page.on_open, reopened=opened)
    except BaseException as error:
        _drop(id, entry)
        _blame(error, "restore" if restore else "open", turn.rest)
        if isinstance(error, PageError):
            error._refuses = True
        known = isinstance(error, Exception)
        opening.set_exception(error if known else HostError("on_open was interrupted"))
        raise
    opening.set_result(None)
    entry.opening = None
    return entry


def _at_hand(do: str, id: str, user: str | None, connection: str, handle: Any) -> Page | None:
    """The object for a message of an open page, which is what most turns are: it goes
    without the long story."""
    if do != "request" and do != "message":
        return None
    entry = _objects.get(id)
    if entry is None or entry.opening is not None:
        return None
    page = entry.page
    page.user, page.connection = user, connection
    here = _request.Turn(id, user, connection, handle)
    here.alone = not is_concurrent(page.on_message)
    _request.enter(here)
    return page


def _bare(turn: _Turn) -> Page:
    cls, args, _, _ = turn.more()
    one = _declared.classes.get(cls)
    if one is None:
        raise PageError("no_class", f"there is no page class {cls!r}")
    page = one.type.__new__(one.type)
    page.id, page.args = turn.page, args
    page.user, page.connection = turn.user, turn.connection
    return page


def _drop(id: str, entry: _Entry) -> None:
    with _lock:
        if _objects.get(id) is entry:
            del _objects[id]


def _answer(do: str, result: Any) -> bytes:
    """The body of an answer. A message has none, and None is no snapshot."""
    if do == "request":
        return _json.encode(result, "what on_message returned")
    if do == "http":
        return _json.encode(result, "what on_request returned")
    if do == "snapshot" and result is not None:
        return _json.encode(result, "what on_snapshot returned")
    return b""


_FAILED = b'{"code":"failed","message":"the handler of the page has failed"}'
_FAILED_ON = b'{"code":"failed","message":"a function that hears it has failed"}'

# An answer of 200, or status, body, and what the log is to hear of.
Answer = bytes | tuple[int, bytes, Exception | None]


def _failed(error: Exception, do: str, rest: bytes) -> Answer:
    """The answer to a turn that failed."""
    if isinstance(error, PageError):
        status = 404 if error.code == "no_class" else 403 if error._refuses else 400
        said = {"code": str(error.code), "message": str(error.message)}
        return status, json.dumps(said).encode(), None
    _blame(error, do, rest)
    return 500, _FAILED_ON if do == "on" else _FAILED, error


def _blame(error: BaseException, do: str, rest: bytes) -> None:
    """Has the log name the class and its handler."""
    cls, _, topic, _ = _Turn(do, True, "", None, "", b"", rest).more()
    if do == "on":
        blame(error, f"functions that hear {topic!r}")
    else:
        blame(error, f"page class {cls}, {_handler(do)}")


def _handler(do: str) -> str:
    return {"request": "on_message", "http": "on_request"}.get(do, f"on_{do}")


# ---- the two kinds


def application(kind: str, app: str) -> Callable[..., Any]:
    """The hidden application of `app`."""
    return _wsgi(app) if kind == "wsgi" else _asgi(app)


def _wsgi(app: str) -> Callable[..., Answer]:
    def turns(
        do: str,
        opened: bool,
        page: str,
        user: str | None,
        connection: str,
        data: bytes,
        rest: bytes,
        handle: Any,
    ) -> Answer:
        try:
            at_hand = _at_hand(do, page, user, connection, handle)
            if at_hand is not None:
                result = at_hand.on_message(_json.decode(data) if data else None)
                if type(result) is CoroutineType:
                    _plain(result)
            else:
                turn = _Turn(do, opened, page, user, connection, data, rest, handle)
                result = _run(_steps(app, turn))
            return _answer(do, result)
        except Exception as error:
            return _failed(error, do, rest)
        except BaseException as error:  # its deadline has passed, or it was told to stop
            _blame(error, do, rest)
            raise

    return turns


def _run(steps: Generator[Step, Any, Any]) -> Any:
    """Goes through a turn in this thread."""
    result, failure = None, None
    while True:
        try:
            step = steps.throw(failure) if failure is not None else steps.send(result)
        except StopIteration as end:
            return end.value
        result, failure = None, None
        try:
            result = _plain(step()) if callable(step) else step.result()
        except BaseException as error:
            failure = error


def _plain(result: Any) -> Any:
    """What a handler returned, unless that is a coroutine, which nobody could run."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("a handler of a WSGI application returned a coroutine")
    return result


def _asgi(app: str) -> Callable[..., Any]:
    async def turns(
        do: str,
        opened: bool,
        page: str,
        user: str | None,
        connection: str,
        data: bytes,
        rest: bytes,
        handle: Any,
    ) -> Answer:
        try:
            at_hand = _at_hand(do, page, user, connection, handle)
            if at_hand is not None:
                value = _json.decode(data) if data else None
                result = await _call(functools.partial(at_hand.on_message, value))
            else:
                turn = _Turn(do, opened, page, user, connection, data, rest, handle)
                result = await _await(_steps(app, turn))
            return _answer(do, result)
        except Exception as error:
            return _failed(error, do, rest)
        except BaseException as error:  # its deadline has passed, or it was told to stop
            _blame(error, do, rest)
            raise

    return turns


async def _await(steps: Generator[Step, Any, Any]) -> Any:
    """Goes through a turn in this task: plain functions run in a thread."""
    result, failure = None, None
    while True:
        try:
            step = steps.throw(failure) if failure is not None else steps.send(result)
        except StopIteration as end:
            return end.value
        result, failure = None, None
        try:
            if not callable(step):
                await asyncio.shield(asyncio.wrap_future(step))
                continue
            result = await _call(step)
        except BaseException as error:
            failure = error


async def _call(step: Callable[[], Any]) -> Any:
    function = step.func if isinstance(step, functools.partial) else step
    function = getattr(function, "__func__", function)
    if _is_async(function):
        return await step()
    if function in _BARE:
        return step()  # nothing happens there, and needs no thread
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    result = await loop.run_in_executor(None, context.run, step)
    return await result if inspect.isawaitable(result) else result


# It looks through wrappers, which costs more than many a handler.
_is_async = functools.lru_cache(1024)(inspect.iscoroutinefunction)
