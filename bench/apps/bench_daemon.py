"""A state daemon as legacy applications have it: Pyro4, and pickle over a Unix socket.

    python bench_daemon.py PATH

Clients: Remote is a page in it. A thread has one connection, which stays open; `once` makes a
new one for each call.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import Pyro4

Pyro4.config.SERIALIZER = "pickle"
Pyro4.config.SERIALIZERS_ACCEPTED = {"pickle"}
Pyro4.config.THREADPOOL_SIZE = 64


@Pyro4.expose
class Pages:
    """The values of all pages, and who has locked which."""

    def __init__(self) -> None:
        self.pages: dict[str, dict[str, Any]] = {}
        self.locked: set[str] = set()
        self.free = threading.Condition()

    def get(self, page: str, path: str) -> Any:
        return self.pages[page][path]

    def set(self, page: str, path: str, value: Any) -> None:
        self.pages.setdefault(page, {})[path] = value

    def lock(self, page: str) -> None:
        with self.free:
            while page in self.locked:
                self.free.wait()
            self.locked.add(page)

    def unlock(self, page: str) -> None:
        with self.free:
            self.locked.discard(page)
            self.free.notify_all()


def address() -> str:
    return f"PYRO:pages@./u:{os.environ['BENCH_PYRO']}"


class _Mine(threading.local):
    proxy: Any = None


_mine = _Mine()


def proxy() -> Any:
    """The open connection of this thread."""
    if _mine.proxy is None:
        _mine.proxy = Pyro4.Proxy(address())
    return _mine.proxy


def once(page: str, path: str) -> Any:
    """A read over a connection of its own."""
    with Pyro4.Proxy(address()) as pages:
        return pages.get(page, path)


class Remote:
    """A page in the daemon."""

    __slots__ = ("page", "pages")

    def __init__(self, page: str) -> None:
        self.page, self.pages = page, proxy()

    def __getitem__(self, path: str) -> Any:
        return self.pages.get(self.page, path)

    def __setitem__(self, path: str, value: Any) -> None:
        self.pages.set(self.page, path, value)

    def lock(self) -> Remote:
        return self

    def __enter__(self) -> None:
        self.pages.lock(self.page)

    def __exit__(self, *_: object) -> None:
        self.pages.unlock(self.page)


def main() -> None:
    with Pyro4.Daemon(unixsocket=sys.argv[1]) as daemon:
        daemon.register(Pages(), "pages")
        print("ready", flush=True)
        daemon.requestLoop()


if __name__ == "__main__":
    main()
