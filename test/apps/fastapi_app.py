"""A FastAPI application that does what real ones do."""

import hashlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Form, Header, HTTPException, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field


class Item(BaseModel):
    """Something with a price."""

    name: str
    price: float = Field(gt=0)


app = FastAPI()
items: dict[int, Item] = {}


async def token(x_token: Annotated[str, Header()] = "") -> str:
    """A dependency that can refuse."""
    if x_token != "sesame":
        raise HTTPException(401, "no token")
    return x_token


@app.post("/items", status_code=201)
async def add(item: Item, _: Annotated[str, Depends(token)]) -> dict[str, int]:
    """Adds an item."""
    items[len(items) + 1] = item
    return {"id": len(items)}


@app.get("/items/{number}")
def one(number: int) -> Item:
    """A plain function: FastAPI runs it in its thread pool."""
    if number not in items:
        raise HTTPException(404)
    return items[number]


@app.post("/upload")
async def upload(file: UploadFile, note: Annotated[str, Form()]) -> dict[str, str | int]:
    """A multipart upload."""
    sums, size = hashlib.sha256(), 0
    while piece := await file.read(65536):
        sums.update(piece)
        size += len(piece)
    return {"note": note, "size": size, "sha256": sums.hexdigest()}


@app.get("/numbers")
async def numbers(n: int) -> StreamingResponse:
    """A stream."""

    async def lines() -> AsyncIterator[str]:
        for i in range(n):
            yield f"{i}\n"

    return StreamingResponse(lines(), media_type="text/plain")
