"""Applications for the tests of the link and of the boot."""

from __future__ import annotations

import atexit
import contextvars
import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
Start = Callable[..., Any]

at_import = contextvars.ContextVar("at_import", default="not set")
at_import.set("set at import")


def gate(environ: Environ) -> None:
    """Blocks until the test opens the fifo that the query names."""
    with open(environ["QUERY_STRING"], "rb"):
        pass


def reply(start: Start, body: bytes, status: str = "200 OK") -> list[bytes]:
    start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def hello(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(start, b"hello")


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    while part := environ["wsgi.input"].read(10_000):
        yield part


def swallow(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(start, str(len(environ["wsgi.input"].read())).encode())


def big(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(start, bytes(i % 251 for i in range(int(environ["QUERY_STRING"]))))


def file(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    wrapper: Iterable[bytes] = environ["wsgi.file_wrapper"](open(environ["QUERY_STRING"], "rb"))  # noqa: SIM115
    return wrapper


def blocked(environ: Environ, start: Start) -> Iterable[bytes]:
    gate(environ)
    return reply(start, b"free")


def hold_gil(environ: Environ, start: Start) -> Iterable[bytes]:
    """Opens the fifo without giving up the GIL: no other Python thread runs meanwhile."""
    descriptor = ctypes.PyDLL(None).open(environ["QUERY_STRING"].encode(), os.O_RDONLY)
    os.close(descriptor)
    return reply(start, b"free")


def late_write(environ: Environ, start: Start) -> Iterable[bytes]:
    """Writes behind the gate: to a client that has left meanwhile."""
    start("200 OK", [])
    yield b"early"
    gate(environ)
    yield b"late"


def late_read(environ: Environ, start: Start) -> Iterable[bytes]:
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        print(f"read raised {type(error).__name__}", flush=True)
        raise
    return reply(start, b"read")


def process_state(environ: Environ, start: Start) -> Iterable[bytes]:
    state = {
        "cwd": os.getcwd(),
        "path": sys.path,
        "argv": sys.argv,
        "guado": [name for name in os.environ if name in ("GUADO_LINK", "GUADO_PACKAGE")],
        "context": at_import.get(),
        "thread": threading.current_thread() is threading.main_thread(),
        "sigusr1": str(signal.getsignal(signal.SIGUSR1)),
        "main": sys.modules["__main__"].__dict__.get("__file__"),
    }
    return reply(start, json.dumps(state).encode())


def square(n: int) -> int:
    return n * n


def pool(environ: Environ, start: Start) -> Iterable[bytes]:
    """multiprocessing in the start method that the query names."""
    context = multiprocessing.get_context(environ["QUERY_STRING"])
    with context.Pool(2) as workers:
        return reply(start, str(workers.map(square, range(5))).encode())


def forever() -> None:
    signal.pause()


def terminate(environ: Environ, start: Start) -> Iterable[bytes]:
    """A forked child obeys SIGTERM although the worker does not."""
    process = multiprocessing.get_context("fork").Process(target=forever)
    process.start()
    process.terminate()
    process.join()
    return reply(start, str(process.exitcode).encode())


def descriptors(environ: Environ, start: Start) -> Iterable[bytes]:
    """What a program started by the application inherits."""
    code = """if True:
        import os
        for name in os.listdir('/proc/self/fd'):
            if int(name) > 2 and os.path.exists('/proc/self/fd/' + name):
                print(os.readlink('/proc/self/fd/' + name))
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, close_fds=False, check=True)
    return reply(start, done.stdout)


def forked_write(environ: Environ, start: Start) -> Iterable[bytes]:
    """A forked child uses the exchange of its parent: told so, and nothing leaves."""
    write = start("200 OK", [])
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(b"from the child")
            told = "nothing was raised"
        except OSError as error:
            told = f"{type(error).__name__}: {error}"
        links = [
            os.readlink(f"/proc/self/fd/{f}")
            for f in os.listdir("/proc/self/fd")
            if int(f) > 2 and os.path.exists(f"/proc/self/fd/{f}")
        ]
        with open("/proc/self/maps") as maps:
            mapped = "memfd:guado" in maps.read()
        os.write(writable, json.dumps({"told": told, "links": links, "mapped": mapped}).encode())
        os._exit(0)
    os.close(writable)
    with open(readable, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return [told]


def stuck_thread(environ: Environ, start: Start) -> Iterable[bytes]:
    threading.Thread(target=threading.Event().wait, name="never-ends", daemon=False).start()
    return reply(start, b"started")


def say_at_exit(environ: Environ, start: Start) -> Iterable[bytes]:
    atexit.register(print, "atexit ran", file=sys.stderr)
    return reply(start, b"registered")


def deep(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(
        start, json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()
    )


PAGES = {
    f"/{f.__name__}": f
    for f in (
        hello,
        echo,
        swallow,
        big,
        file,
        blocked,
        hold_gil,
        late_write,
        late_read,
        process_state,
        pool,
        terminate,
        descriptors,
        forked_write,
        stuck_thread,
        say_at_exit,
        deep,
    )
}


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return PAGES[environ["PATH_INFO"]](environ, start_response)


async def asgi(
    scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]
) -> None:
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    path = scope["path"]
    if path == "/block":
        with open(scope["query_string"], "rb"):  # blocks the loop
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if path == "/count":
        count = 0
        while (message := await receive())["type"] == "http.request":
            count += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await send({"type": "http.response.body", "body": str(count).encode()})
        return
    await send({"type": "http.response.body", "body": b"async hello"})
