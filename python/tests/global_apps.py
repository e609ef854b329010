"""Applications of the tests of the global store: routes as in push_apps."""

from __future__ import annotations

import os
import threading
from typing import Any

import guado
import push_apps
from guado import _replica

AT_IMPORT: list[Any] = []
HEARD: list[Any] = []
NEWS = threading.Event()

if guado._worker is not None and guado._worker.phase >= 4:
    AT_IMPORT.append(guado.global_store().items())


def hear(change: Any) -> None:
    HEARD.append(list(change))
    if change.path == ("stop",):
        NEWS.set()


def listen() -> Any:
    store = guado.global_store()
    store.on_change("a", hear)
    store.on_change("stop", hear)
    ended = store.on_change(None, lambda change: 1 / 0)  # is logged, and harms nobody
    return [callable(ended), store.get("a")]


def heard() -> Any:
    assert NEWS.wait(60)
    return HEARD


def owned() -> Any:
    store = guado.global_store()
    store["list"].append("mine")
    store["a"]["mine"] = 1
    return [store["list"], store["a"]]


def unawaited() -> Any:
    store = guado.global_store()
    store.set("a.b", 5, ttl=1.5)
    return store["a.b"]


def callback() -> Any:
    """Reads in the callback of a write, on the thread that reads replies."""
    found: list[Any] = []
    done = threading.Event()

    def read(_: Any) -> None:
        store = guado.global_store()
        store.set("a.b", 6)
        found.append(store.get("a.b"))
        done.set()

    guado.global_store().set("a.b", 5).add_done_callback(read)
    assert done.wait(60)
    return found


def applied() -> Any:
    assert _replica._replica is not None
    return _replica._replica.number


def fork() -> Any:
    store = guado.global_store()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        out = [push_apps.outcome(lambda: store["a"]), push_apps.outcome(guado.global_store)]
        os.write(write, repr([one[0] for one in out]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return os.read(read, 1000).decode()


push_apps.ROUTES |= {
    "imported": lambda: AT_IMPORT,
    "all": lambda: dict(guado.global_store().items()),
    "get": lambda: guado.global_store().get("a.b", "none"),
    "shape": lambda: [
        list(guado.global_store()),
        len(guado.global_store()),
        "a.b" in guado.global_store(),
        ("a", "x.y") in guado.global_store(),
        guado.global_store().keys("a"),
    ],
    "missing": lambda: guado.global_store()["not.there"],
    "fresh": lambda: guado.global_store().read("a.b", fresh=True).result(),
    "swap": lambda: (
        guado.global_store().compare_and_set("a.b", guado.MISSING, {"n": (1, 2)}, ttl=2).result()
    ),
    "clear": lambda: guado.global_store().clear(),
    "del": lambda: guado.global_store().__delitem__(("a", "x.y")),
    "add": lambda: guado.global_store().add("n", 2**60).result(),
    "setdefault": lambda: repr(guado.global_store().setdefault("a.b", b"x").result()),
    "listen": listen,
    "heard": heard,
    "owned": owned,
    "unawaited": unawaited,
    "callback": callback,
    "applied": applied,
    "fork": fork,
}


async def later() -> Any:
    store = guado.global_store()
    number = await store.set("a.b", 7)
    return [number, store["a.b"], await store.read("a.b")]


push_apps.LATER |= {"set": later}

wsgi = push_apps.wsgi
asgi = push_apps.asgi
