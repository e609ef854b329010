"""What test/chaos/kill loads while its worker is killed: registers and logs in stores, over
plain requests and in turns of a page; as a WSGI and as an ASGI application."""

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import guado
from guado import _core, _state

KIND = os.environ.get("TEST_KIND", "wsgi")
BUG = os.environ.get("TEST_BUG", "")  # a guarantee of the worker that is broken here


def hold() -> None:
    """A window between what was done and its commit, into which a kill may fall."""
    time.sleep(random.random() * (0.15 if BUG == "reads" else 0.006))


def act(stores: Callable[[str], Any], do: dict[str, Any]) -> Any:
    """One operation on one key: `of` names the store, `key` its place.

    `write` sets a register and gives what it set; `append` adds to a log; `read` gives the
    register, `all` the log. `login` makes the connection a user's, `who` says whose
    it is, and `share` lets the client of the page have logs, and write a register."""
    if "login" in do:
        guado.connection().login(do["login"])
        return do["login"]
    if "share" in do:
        page, over = guado.page(), do["share"]
        page.share("log", over=over)
        page.share("register", write=True, over=over)
        page.share("log", store=guado.user().store, over=over)
        return 1
    if "who" in do:
        return guado.connection().user
    store, key = stores(do["of"]), do["key"]
    if "write" in do:
        store["register", key] = do["write"]
        hold()
        return do["write"]
    if "alone" in do:
        with store.transaction():  # what others commit does not take it along
            store.setdefault(("log", key), []).append(do["append"])
            time.sleep(random.random() * 0.006)
            return 1
    if "append" in do:
        log = store.setdefault(("log", key), [])
        log.append(do["append"])
        if BUG != "reads":
            hold()
        return len(log)
    if "all" in do:
        return list(store.get(("log", key), []))
    value = store.get(("register", key), 0)
    if BUG == "reads":  # what the answer rests on does not travel with it
        _state.current().exchange().touched.clear()
    return value


def of_request(of: str) -> Any:
    """The stores that a request has."""
    if of == "page":
        return guado.page().store
    return guado.connection().store if of == "connection" else guado.user().store


class Kill(guado.Page):
    """The same over the socket; what is appended is pushed, too."""

    def on_message(self, data: Any) -> Any:
        """One operation."""

        def of_page(of: str) -> Any:
            return self.store if of == "page" else of_request(of)

        answer = act(of_page, data)
        if "append" in data and "alone" not in data:
            self.push({"pushed": data["append"]})
        return answer


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A plain request."""
    body = json.dumps(act(of_request, json.loads(environ["wsgi.input"].read()))).encode()
    fields = [("Content-Type", "application/json"), ("Worker", str(os.getpid()))]
    start_response("200 OK", fields)
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The same."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    do = json.loads(body)
    # Who waits for a transaction must not keep the loop from ending another one.
    found = await asyncio.to_thread(act, of_request, do) if "alone" in do else act(of_request, do)
    answer = json.dumps(found).encode()
    fields = [(b"content-type", b"application/json"), (b"worker", b"%d" % os.getpid())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": answer})


app: Any = wsgi if KIND == "wsgi" else asgi


class Overtaken:
    """A hook of an answer that lets commits of others overtake some of its own, and their
    answers with them."""

    def __init__(self, running: _state.Running) -> None:
        self.running = running

    def __call__(self, what: int) -> None:
        running = self.running
        if what == _state.HEAD and not running.effects and random.random() < 0.3:
            kept: list[bytes] = []
            running.ledger.take(running.exchange, lambda taken: kept.append(taken.encode()))
            if kept:
                time.sleep(0.1)
                running.link.seal(kept[0] + bytes(4))
                running.link.push(True)
        running(what)


class Core:
    """guado._core, but for that."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_core, name)

    def attach(self, handle: Any, running: _state.Running) -> int:
        return _core.attach(handle, Overtaken(running))


if BUG == "sequence":
    _state.current().core = Core()  # type: ignore[attr-defined]
