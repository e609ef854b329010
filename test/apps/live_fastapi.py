"""A FastAPI application with live pages."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import guado
import live_jobs
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

app = FastAPI()


class Board(guado.Page):
    """Coroutines on the loop, and a plain handler in a thread."""

    async def on_open(self, *, reopened: bool = False) -> None:
        self.count = 0
        await self.push({"opened": self.args, "reopened": reopened})

    async def on_message(self, data: Any) -> Any:
        match data:
            case {"subscribe": topic}:
                await self.subscribe(topic)
            case {"kill": _}:
                os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        return self.count

    def on_event(self, topic: str, data: Any) -> None:
        self.push({"heard": [topic, data]}).result(30)


@guado.on("invoice.*")
async def archive(topic: str, data: Any) -> None:
    await guado.broadcast({"archived": data})


@app.get("/html")
async def html() -> PlainTextResponse:
    return PlainTextResponse(guado.new_page(Board, room=2))


@app.post("/thread")
def thread(what: dict[str, Any]) -> Any:
    """In a thread of the framework's pool."""
    return guado.page(what["page"]).push("thread").result(30)


@app.post("/executor")
async def executor(what: dict[str, Any]) -> Any:
    return await guado.executor("cpu").submit(live_jobs.push, what["page"], "executor")


@app.post("/{how}")
async def act(how: str, request: Request) -> Any:
    what = await request.json()
    match how:
        case "direct":
            return await guado.page(what["page"]).push(how, ack=True, timeout=20)
        case "publish":
            return await guado.publish(what["topic"], what["data"])
        case "login":
            await guado.connection().login(what["user"])
            return [await asyncio.to_thread(lambda: guado.connection().user)]
        case "user":
            return guado.user(what["user"]).push(how).result(30)  # on the loop, waiting
        case "mine":
            return await guado.connection().push(how)
    return []
