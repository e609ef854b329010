"""Applications of the tests of push, pages and events.

/NAME runs a function of ROUTES and answers what it returned, or what it raised; in an ASGI
application synchronously, on the loop. /await/NAME awaits what a function of LATER gives;
/thread/NAME runs one of ROUTES in a thread of its own, with the request's context.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import guado
from guado import _host

if os.environ.get("TEST_LOOP") == "uvloop":
    import uvloop

    asyncio.set_event_loop(uvloop.new_event_loop())
elif os.environ.get("TEST_LOOP") == "asyncio":
    asyncio.set_event_loop(asyncio.new_event_loop())

IMPORTED: list[Any] = []
HEARD: list[Any] = []
LOGGED: list[str] = []


class Keep(logging.Handler):
    """Keeps what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        LOGGED.append(record.getMessage())


logging.getLogger("guado").addHandler(Keep())

if os.environ.get("TEST_AT_IMPORT"):
    IMPORTED.append(guado.publish("imported").result(60))


def fork() -> Any:
    """What a forked child can ask."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(outcome(lambda: guado.broadcast(1).result(5))).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        return json.loads(pipe.read())


def many() -> Any:
    """More pushes than a worker may have under way."""
    all = [guado.page("P1").push(i) for i in range(5000)]
    return sum(one.result(60).pages for one in all)


def leads() -> Any:
    """Waits on the loop for a reply that the host gives when another thread has seen that
    nobody but the loop's thread can read it."""
    assert guado._worker is not None
    link, seen = guado._worker.link, []

    def look() -> None:
        end = time.monotonic() + 40
        while not (leads := link.loop_leads()) and time.monotonic() < end:
            time.sleep(0.001)
        seen.append(leads)
        guado.publish("seen", None)

    looks = threading.Thread(target=look)
    looks.start()
    pages = guado.page("P1").push("x").result(60).pages
    looks.join()
    return [*seen, pages]


def alone() -> Any:
    """Asks until a reply was settled by the thread that waited for it; the one that waits for
    all may be faster."""
    here, settled = threading.get_ident(), []
    for _ in range(200):
        reply: _host.Reply[None] = _host.Reply()
        _host.ask(
            "publish", b'{"topic":"t"}', reply, lambda _: settled.append(threading.get_ident())
        )
        reply.result(60)
        if here in settled:
            return True
    return False


def late() -> Any:
    """The reply does not come in time, and is taken when it does."""
    sent = guado.page("P1").push("x")
    try:
        sent.result(0.01)
    except TimeoutError:
        guado.publish("late", None)
        return sent.result(60).pages


def crowd() -> Any:
    """More pushes than the host answers: the last one waits for room."""
    return [guado.broadcast(i) for i in range(2049)]


def nobody_looks() -> None:
    guado.broadcast("x")


def declare() -> None:
    class Later(guado.Page):
        pass

    guado.on("later.*")(hear)


def hear(topic: str, data: Any) -> None:
    HEARD.append([topic, data])


def touched() -> Any:
    one = guado.connection()
    before = one.user
    return [before, one.id, one.user]


def login() -> Any:
    guado.connection().login("berta", flag="bl")
    return [guado.connection().user, guado.connection().id]


def logout() -> Any:
    guado.connection().logout()
    return guado.connection().user


def open_page() -> Any:
    id = guado.new_page("Board", size=3)
    return [id, guado.page().id]


def opened() -> Any:
    one = guado.page()
    return [one.id, one.user, one.connection, one.connected]


ROUTES: dict[str, Callable[[], Any]] = {
    "imported": lambda: IMPORTED,
    "heard": lambda: HEARD,
    "logged": lambda: LOGGED,
    "page": lambda: guado.page("P1").push({"n": [1, "è"]}).result(),
    "current": lambda: guado.page().push("here").result(),
    "snapshot": lambda: guado.page("P1").snapshot({"all": 1}).result(),
    "user": lambda: guado.user("anna").push(1).result(),
    "connection": lambda: guado.connection().push(1).result(),
    "broadcast": lambda: guado.broadcast(None).result(),
    "ack": lambda: guado.page("P1").push(1, ack=True, timeout=1.5).result(),
    "ackall": lambda: guado.broadcast(1, ack=True).result(),
    "gone": lambda: guado.page("gone").push(1).result(),
    "short": lambda: guado.broadcast(1).result(0.01),
    "publish": lambda: guado.publish("invoice.paid", {"id": 7}).result(),
    "subscribe": lambda: guado.page("P1").subscribe("invoice.*").result(),
    "unsubscribe": lambda: guado.page("P1").unsubscribe("invoice.*").result(),
    "end": lambda: guado.page("P1").end().result(),
    "date": lambda: guado.broadcast({"at": [datetime.date(2026, 1, 1)]}),
    "leads": leads,
    "alone": alone,
    "late": late,
    "many": many,
    "crowd": crowd,
    "nobody": nobody_looks,
    "declare": declare,
    "touched": touched,
    "login": login,
    "logout": logout,
    "open": open_page,
    "opened": opened,
    "fork": fork,
    "form": lambda: outcome(lambda: guado.page("")),
}

LATER: dict[str, Callable[[], Awaitable[Any]]] = {
    "page": lambda: guado.page("P1").push({"n": [1, "è"]}),
    "ack": lambda: guado.page("P1").push(1, ack=True),
    "gone": lambda: guado.page("gone").push(1),
    "publish": lambda: guado.publish("invoice.paid", {"id": 7}),
    "login": lambda: guado.connection().login("berta"),
    "cancelled": lambda: asyncio.wait_for(guado.broadcast(1), 0.01),
}


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> Any:
    return [type(error).__name__, str(error), getattr(error, "code", "")]


def in_thread(work: Callable[[], Any]) -> Any:
    results: list[Any] = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: results.append(context.run(outcome, work)))
    thread.start()
    thread.join()
    return results[0]


def run(path: str) -> Any:
    how, _, name = path.strip("/").rpartition("/")
    if how == "thread":
        return in_thread(ROUTES[name])
    return outcome(ROUTES[name])


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    body = json.dumps(run(environ["PATH_INFO"])).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    path = scope["path"]
    if path.startswith("/await/"):
        try:
            result = await LATER[path.removeprefix("/await/")]()
        except Exception as error:
            result = failure(error)
    elif path.startswith("/thread/"):
        result = await asyncio.to_thread(run, path.removeprefix("/thread"))
    else:
        result = run(path)
    body = json.dumps(result).encode()
    fields = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
