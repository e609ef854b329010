"""Runs the turns of pages: a hidden application beside each of the worker's.

Before: the host sends a turn as the body of a request (protocol/link.md, section 13).
After: the handler of a page class, or a function that hears events. Not here: whose turn
it is, which the host decides; a page's handlers never run at once, but for those that are
marked so.

One story (`_steps`) for both kinds: it yields what is to be called or waited for, and a
WSGI thread or an ASGI task does that its own way.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import json
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from guado import _declared, _host, _json, _request, events
from guado._futures import Future
from guado.errors import HostError, PageError
from guado.pages import Page, is_concurrent
from guado.worker.errors import BootFailed

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
    try:
        for one in _declared.classes.values():
            _declared.refuse_async(one.app, one.handlers(), f"page class {one.where}")
        for listener in _declared.listeners:
            what = f"{listener.where}, which hears {listener.topic!r}"
            _declared.refuse_async(listener.app, (listener.function,), what)
    except TypeError as error:
        raise BootFailed("kind", "", str(error)) from error


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
                        handler.__name__ for handler in one.handlers() if is_concurrent(handler)
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


def _steps(app: str, turn: dict[str, Any], handle: Any) -> Generator[Step, Any, Any]:
    """Runs one turn; what it returns is the client's answer."""
    if turn["do"] == "on":
        return (yield from _hear(app, turn["topic"], turn.get("data")))
    id, user, connection = turn["page"], turn.get("user") or None, turn.get("connection") or ""
    _request.enter(_request.turn(id, user, connection, handle))
    entry = yield from _object(turn)
    page = entry.page
    page.user, page.connection = user, connection
    match turn["do"]:
        case "message" | "request":
            return (yield functools.partial(page.on_message, turn.get("data")))
        case "snapshot":
            return (yield page.on_snapshot)
        case "event":
            on_event = getattr(page, "on_event", None)
            if on_event is None:
                raise PageError("no_handler", "this page hears no events")
            yield functools.partial(on_event, turn["topic"], turn.get("data"))
        case "close":
            try:
                yield functools.partial(page.on_close, turn.get("why", ""))
            finally:
                _drop(id, entry)
    return None


def _hear(app: str, topic: str, data: Any) -> Generator[Step, Any, None]:
    """Calls all functions of the application that hear the topic, though one fails."""
    failures = []
    for one in list(_declared.listeners):
        if one.app == app and events.matches(one.topic, topic):
            try:
                yield functools.partial(one.function, topic, data)
            except Exception as error:
                failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup(f"functions that hear {topic!r} failed", failures)


def _object(turn: dict[str, Any]) -> Generator[Step, Any, _Entry]:
    """The page's object; one that is not there is made, and opened."""
    id, opened = turn["page"], bool(turn.get("opened"))
    anew = turn["do"] == "open" and not opened
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
    try:
        if type(entry.page).__init__ is not object.__init__:
            yield entry.page.__init__  # type: ignore[misc]
        yield functools.partial(entry.page.on_open, reopened=opened)
    except BaseException as error:
        _drop(id, entry)
        known = isinstance(error, Exception)
        opening.set_exception(error if known else HostError("on_open was interrupted"))
        raise
    opening.set_result(None)
    entry.opening = None
    return entry


def _at_hand(turn: dict[str, Any], handle: Any) -> Page | None:
    """The object for a message of an open page, which is what most turns are: it goes
    without the long story."""
    if turn["do"] != "request" and turn["do"] != "message":
        return None
    entry = _objects.get(turn["page"])
    if entry is None or entry.opening is not None:
        return None
    page = entry.page
    page.user, page.connection = turn.get("user") or None, turn.get("connection") or ""
    _request.enter(_request.turn(page.id, page.user, page.connection, handle))
    return page


def _bare(turn: dict[str, Any]) -> Page:
    one = _declared.classes.get(turn["class"])
    if one is None:
        raise PageError("no_class", f"there is no page class {turn['class']!r}")
    page = one.type.__new__(one.type)
    page.id, page.args = turn["page"], turn.get("args") or {}
    page.user, page.connection = turn.get("user") or None, turn.get("connection") or ""
    return page


def _drop(id: str, entry: _Entry) -> None:
    with _lock:
        if _objects.get(id) is entry:
            del _objects[id]


def _answer(do: str, result: Any) -> bytes:
    """The body of an answer. A message has none, and None is no snapshot."""
    if do == "request" or (do == "snapshot" and result is not None):
        return b'{"data":%s}' % _json.encode(result, f"what on_{_HANDLER[do]} returned")
    return b"{}"


_HANDLER = {"request": "message", "snapshot": "snapshot"}

_FAILED = b'{"code":"failed","message":"the handler of the page has failed"}'
_FAILED_ON = b'{"code":"failed","message":"a function that hears it has failed"}'


def _failed(turn: dict[str, Any]) -> bytes:
    return _FAILED_ON if turn.get("do") == "on" else _FAILED


def _refusal(error: PageError) -> tuple[int, bytes]:
    status = 404 if error.code == "no_class" else 400
    return status, json.dumps({"code": str(error.code), "message": str(error.message)}).encode()


def _title(turn: dict[str, Any]) -> str:
    """What failed, for the log."""
    if turn.get("do") == "on":
        return f"Exception in a function that hears {turn.get('topic')!r}"
    return f"Exception in page class {turn.get('class')}, turn {turn.get('do')!r}"


# ---- the two kinds


def application(kind: str, app: str) -> Callable[..., Any]:
    """The hidden application of `app`."""
    return _wsgi(app) if kind == "wsgi" else _asgi(app)


def _wsgi(app: str) -> Callable[..., Any]:
    def turns(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        turn = _json.decode(environ["wsgi.input"].read())
        status, failure = 200, None
        try:
            page = _at_hand(turn, start_response)
            if page is not None:
                result = _plain(page.on_message(turn.get("data")))
            else:
                result = _run(_steps(app, turn, start_response))
            body = _answer(turn["do"], result)
        except PageError as error:
            status, body = _refusal(error)
        except Exception as error:
            error.add_note(_title(turn))
            status, body, failure = 500, _failed(turn), error
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{status} Turn", fields)
        return (body,) if failure is None else _Failed(body, failure)

    return turns


class _Failed:
    """An answer behind which a failure goes into the log, with the id of the request."""

    def __init__(self, body: bytes, failure: Exception) -> None:
        self.body = body
        self.failure = failure

    def __iter__(self) -> Iterator[bytes]:
        return iter((self.body,))

    def close(self) -> None:
        raise self.failure


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
    async def turns(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} here: this application runs turns of pages")
        turn = _json.decode(await _read(receive))
        status, failure = 200, None
        try:
            page = _at_hand(turn, receive)
            if page is not None:
                result = await _call(functools.partial(page.on_message, turn.get("data")))
            else:
                result = await _await(_steps(app, turn, receive))
            body = _answer(turn["do"], result)
        except PageError as error:
            status, body = _refusal(error)
        except Exception as error:
            error.add_note(_title(turn))
            status, body, failure = 500, _failed(turn), error
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})
        if failure is not None:
            raise failure  # into the log, with the id of the request

    return turns


async def _read(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the host has taken the turn back")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


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
