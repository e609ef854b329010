"""Writes and reads stores as a test tells it to: over plain requests, and in turns of a page;
as a WSGI and as an ASGI application."""

import asyncio
import itertools
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import guado
from guado import _state

KIND = os.environ.get("TEST_KIND", "wsgi")

VERBS: dict[str, Callable[[Any], Any]] = {}  # that other applications add


def store(of: str) -> Any:
    """The store of the page, connection or user of the request."""
    if of == "page":
        return guado.page().store
    if of == "connection":
        return guado.connection().store
    return guado.user(of or None).store


def wait(path: str) -> None:
    """Says that it is here, and waits for the test."""
    with open(f"{path}.begun", "w", encoding="utf-8") as f:
        f.write("begun")
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)


def thing(what: list[str]) -> Any:
    """The turn of a page, or the lock of its store."""
    page = guado.page(what[1])
    return page.turn() if what[0] == "turn" else getattr(page.store, what[0])()


def across(do: dict[str, Any]) -> Any:
    """Has one thing, and when somebody else has another one wants that."""
    with thing(do["has"]):
        wait(do["wait"])
        try:
            with thing(do["wants"]):
                return "had both"
        except guado.Deadlock as error:
            return str(error)


async def across_async(do: dict[str, Any]) -> Any:
    """The same in a coroutine."""
    async with thing(do["has"]):
        await asyncio.to_thread(wait, do["wait"])
        try:
            async with thing(do["wants"]):
                return "had both"
        except guado.Deadlock as error:
            return str(error)


def ask(url: str, cookie: str) -> Any:
    """Asks the server, which may know that to be in vain."""
    asked = urllib.request.Request(url, b"{}", {"Cookie": cookie})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]


def spin(of: Any) -> None:
    """Writes until it is interrupted: what is one operation must be whole in the end."""
    of["list"] = []
    for n in itertools.count(1):
        with of.transaction():
            of["pair"] = {"a": n, "b": [n] * 20}
            if n % 1000 == 0:  # or a fast machine fills the store before the interrupt
                of["list"] = []
            of["list"].extend([n, {"n": n}, n])
            of["pair"].update({"c": n, "d": {"e": n}})


def act(do: dict[str, Any]) -> Any:
    """Does all of `do`, in order; the last thing that it read is the answer."""
    answer: Any = {"pid": os.getpid()}
    for verb, what in do.items():
        of = store(do.get("of", "page")) if verb in ("set", "get", "add") else None
        match verb:
            case "set":
                for path, value in what.items():
                    of[path] = value
            case "add":
                of[what] = of.get(what, 0) + 1
                answer = of[what]
            case "get":
                answer = of.get(what)
            case "push":
                guado.page().push(what)
            case "wait_push":
                answer = guado.page().push(what).result().pages
            case "flush":
                guado.page().flush()
            case "turn":
                with guado.page().turn(what.pop("timeout", 30.0)):
                    answer = act(what)
            case "enter":
                guado.page().turn().__enter__()
            case "later":
                here = store(do.get("of", "page"))
                threading.Thread(target=here.update, args=(what,)).start()
            case "login":
                guado.connection().login(what)
            case "held":  # how many stores this worker has in its memory
                answer = len(_state.current()._stores)  # type: ignore[attr-defined]
            case "who":
                answer = guado.connection().user
            case "wait":
                wait(what)
            case "damage":  # behind the back of the store, which records nothing
                for key, value in what.items():
                    cart = store(do.get("of", "page")).root["cart"]
                    dict.__setitem__(cart, key, value)
            case "spin":
                spin(store(do.get("of", "page")))
            case "raise":
                raise RuntimeError(what)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die_once":
                if not os.path.exists(what):
                    open(what, "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
            case "transaction":
                with store(do.get("of", "page")).transaction():
                    answer = act(what)
            case "refused":  # why
                try:
                    answer = act(what)
                except (guado.Deadlock, guado.LockTimeout) as error:
                    answer = f"{type(error).__name__}: {error}"
            case "across":
                answer = across(what)
            case "wants":  # in the turn of a handler
                wait(what["wait"])
                try:
                    with thing(what["wants"]):
                        answer = "had both"
                except guado.Deadlock as error:
                    answer = str(error)
            case "long":
                answer = "x" * what
            case more if more in VERBS:
                answer = VERBS[more](what)
    return answer


class Cart(guado.Page):
    """A page of a class, with the same stores."""

    restored = False

    def on_restore(self) -> None:
        """Another object was here before."""
        self.restored = True

    seen = 0

    def on_request(self, request: guado.PageRequest) -> Any:
        """Over HTTP."""
        if request.path == "refuse":
            raise guado.PageError("not_now", "as the test wants it")
        if request.path == "fail":
            raise RuntimeError("as the test wants it")
        if request.path == "myself":
            with open(request.data["begun"], "w", encoding="utf-8") as f:
                f.write("begun")
            return ask(request.data["url"], request.data["cookie"])
        self.seen += 1
        return [request.method, request.path, request.query, request.data, self.seen]

    def on_message(self, data: Any) -> Any:
        """As a request."""
        if "seen" in data:
            self.seen += 1
            return self.seen
        if "restored" in data:
            return [self.restored, self.store.get("count")]
        if "count" in data:
            self.store["count"] = self.store.get("count", 0) + 1
            return self.store["count"]
        return act(data)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A plain request."""
    do = json.loads(environ["wsgi.input"].read() or b"{}")
    fields = [("Content-Type", "application/json")]
    if "stream" in do:
        return stream(do, start_response, fields)
    body = json.dumps(act(do)).encode()
    start_response("200 OK", fields)
    return [body]


def stream(do: dict[str, Any], start_response: Any, fields: Any) -> Iterator[bytes]:
    """What is done behind the head is refused."""
    act(do["stream"])
    start_response("200 OK", fields)
    yield b"[1"
    if "turn" in do:
        with guado.page().turn(), guado.page().turn():
            act(do["turn"])
    try:
        act(do.get("then", {}))
    except guado.StoreError as error:
        yield f',"{type(error).__name__}"'.encode()
    yield b"]"


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
    do = json.loads(body or b"{}")
    if "spin" in do:
        act(do)  # in the thread of the loop, where it is interrupted
    on_loop = do.pop("on_loop", None)
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json")],
    }
    if "stream" in do:
        for part in stream(do, lambda *_: None, None):
            await send(start) if part == b"[1" else None
            await send({"type": "http.response.body", "body": part, "more_body": part != b"]"})
        return
    if on_loop:
        what = act(do)
    elif "across" in do:
        what = await across_async(do["across"])
    else:
        what = await asyncio.to_thread(act, do)
    body = json.dumps(what).encode()
    await send(start)
    await send({"type": "http.response.body", "body": body})


app: Any = wsgi if KIND == "wsgi" else asgi
