"""A Starlette application that does what real ones do."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

import sharedfile
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

FILE = sharedfile.path()
background: list[str] = []
worked = asyncio.Event()
finished = asyncio.Event()
gate = asyncio.Event()
seen: list[str] = []


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    """State for every request; a line at each end."""
    print("lifespan: started", flush=True)
    yield {"greeting": "hello from lifespan"}
    print("lifespan: stopped", flush=True)


async def index(request: Request) -> JSONResponse:
    """What the request looks like from here."""
    return JSONResponse(
        {
            "root_path": request.scope.get("root_path"),
            "path": request.scope["path"],
            "greeting": request.state.greeting,
            "http_version": request.scope["http_version"],
            "loop": type(asyncio.get_running_loop()).__module__,
        }
    )


async def digest(request: Request) -> JSONResponse:
    """A body read as it arrives."""
    sums, size = hashlib.sha256(), 0
    async for piece in request.stream():
        sums.update(piece)
        size += len(piece)
    return JSONResponse({"size": size, "sha256": sums.hexdigest()})


async def stream(request: Request) -> StreamingResponse:
    """Ten lines, generated; behind the first it waits for /open."""

    async def lines() -> AsyncIterator[str]:
        for n in range(10):
            yield f"line {n}\n"
            if n == 0:
                await asyncio.wait_for(gate.wait(), 60)

    return StreamingResponse(lines(), media_type="text/plain")


async def open_(request: Request) -> PlainTextResponse:
    """Lets the stream go on."""
    gate.set()
    return PlainTextResponse("opened")


async def echo(request: Request) -> StreamingResponse:
    """Each piece of the body as soon as it is here."""
    return StreamingResponse(request.stream(), media_type="application/octet-stream")


async def file(request: Request) -> FileResponse:
    """A file, by pathsend where the server offers it."""
    return FileResponse(FILE, media_type="application/octet-stream")


async def later(request: Request) -> PlainTextResponse:
    """Work after the answer."""

    async def work() -> None:
        background.append("done")
        worked.set()

    return PlainTextResponse("accepted", background=BackgroundTask(work))


async def done(request: Request) -> JSONResponse:
    """Waits for the work after an answer and tells what it did."""
    if request.query_params.get("wait"):
        await asyncio.wait_for(worked.wait(), 20)
    return JSONResponse(background)


async def big(request: Request) -> StreamingResponse:
    """One GiB in pieces of 64 KiB."""

    async def pieces() -> AsyncIterator[bytes]:
        piece = b"x" * 65536
        for _ in range(1 << 14):
            yield piece

    return StreamingResponse(pieces(), media_type="application/octet-stream")


async def endless(request: Request) -> StreamingResponse:
    """Events until the client leaves."""

    async def events() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            seen.append("closed")
            finished.set()

    return StreamingResponse(events(), media_type="text/event-stream")


async def closed(request: Request) -> JSONResponse:
    """Waits until an endless stream was given up."""
    await asyncio.wait_for(finished.wait(), 20)
    return JSONResponse(seen)


async def error(request: Request) -> None:
    """An unhandled exception."""
    raise RuntimeError("an error in an endpoint")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", index),
        Route("/digest", digest, methods=["POST"]),
        Route("/stream", stream),
        Route("/open", open_),
        Route("/echo", echo, methods=["POST"]),
        Route("/file", file),
        Route("/later", later),
        Route("/done", done),
        Route("/big", big),
        Route("/endless", endless),
        Route("/closed", closed),
        Route("/error", error),
    ],
)
