"""The C core of a worker (csrc/): types for mypy and for readers."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, final

PROTOCOL: int
WSGI: int
ASGI: int

class LinkClosed(OSError):
    """The host is gone, or this is a forked child of the worker."""

@final
class Link:
    """The worker's end of the link. Made by open()."""

    loop_fd: int
    loop_wake_fd: int
    def hello(self, timeout_ms: int, /) -> bytes: ...
    def ready(self, json: bytes, /) -> None: ...
    def failed(self, json: bytes, /) -> None: ...
    def serve(
        self, kinds: bytes, request_credit: int, response_credit: int, threads: int, /
    ) -> None: ...
    def wait_drained(self, timeout_ms: int = -1, /) -> bool: ...
    def draining(self) -> int | None: ...
    def log(self, level: int, text: str, stream: int = 0, /) -> None: ...
    def close(self) -> None: ...

def open(spec: str, /) -> Link: ...
def decode_frame(data: bytes, max_frame: int, /) -> dict[str, int]: ...
def decode_request(payload: bytes, /) -> dict[str, Any]: ...

class ClientDisconnected(ConnectionResetError):
    """A read or write after the client left, the deadline passed, or the server stopped."""

class BodyCut(ConnectionResetError):
    """The request body ended before it was complete."""

@final
class FileWrapper:
    """wsgi.file_wrapper."""

    def __init__(self, filelike: Any, blksize: int = 8192) -> None: ...
    @property
    def filelike(self) -> Any: ...
    def __iter__(self) -> FileWrapper: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...

def wsgi_start(
    link: Link,
    apps: tuple[Callable[..., Any] | None, ...],
    context: contextvars.Context,
    environ: dict[str, Any],
    threads: int,
    describe: Callable[[BaseException], tuple[str, str]],
    entered: Callable[[int], None],
    /,
) -> None: ...

@final
class AsgiServer:
    """Takes requests from the link and runs each in a task of the loop (worker/asgi.py)."""

    def __new__(
        cls,
        link: Link,
        loop: asyncio.AbstractEventLoop,
        apps: list[Callable[..., Any] | None],
        states: list[dict[str, Any]],
        context: contextvars.Context,
        report: Callable[[int, str, BaseException | None], None],
        news: Callable[[str], None],
    ) -> AsgiServer: ...
    @property
    def descriptors(self) -> tuple[int, ...]: ...
    @property
    def running(self) -> int: ...
    @property
    def grace(self) -> float | None: ...
    def ready(self) -> None: ...
    def cancel_all(self) -> int: ...
