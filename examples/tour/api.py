"""The tour's FastAPI application (ASGI): a task list in memory and a stream of events."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI(title="Guado tour")


class Task(BaseModel):
    """One thing to do."""

    title: str
    done: bool = False


tasks: dict[int, Task] = {}


@app.get("/tasks")
async def list_tasks() -> dict[int, Task]:
    """Every task."""
    return tasks


@app.post("/tasks", status_code=201)
async def add_task(task: Task) -> dict[str, int]:
    """Adds a task and tells its number."""
    number = max(tasks, default=0) + 1
    tasks[number] = task
    return {"id": number}


@app.get("/tasks/{number}")
async def one_task(number: int) -> Task:
    """One task."""
    if number not in tasks:
        raise HTTPException(404, "no such task")
    return tasks[number]


@app.get("/ticks")
async def ticks(n: int = 5) -> StreamingResponse:
    """n server-sent events, one a second."""

    async def events() -> AsyncIterator[str]:
        for i in range(n):
            if i:
                await asyncio.sleep(1)
            yield f"data: {i}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
