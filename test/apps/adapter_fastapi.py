"""A FastAPI application with the dependencies, and sessions."""

from __future__ import annotations

from typing import Annotated, Any

import guado
from fastapi import Depends, FastAPI, Form, Request, WebSocket
from fastapi.responses import PlainTextResponse, RedirectResponse
from guado.adapters.starlette import (
    GuadoAuthentication,
    GuadoSessionMiddleware,
    guado_connection,
    guado_page,
    guado_user,
    need_page,
    need_user,
)
from starlette.middleware.authentication import AuthenticationMiddleware

app = FastAPI()
app.add_middleware(GuadoSessionMiddleware)
app.add_middleware(AuthenticationMiddleware, backend=GuadoAuthentication())

Browser = Annotated[guado.Connection, Depends(guado_connection)]
Page = Annotated[guado.PageHandle, Depends(need_page)]
User = Annotated[str, Depends(need_user)]


@app.post("/login")
async def log_in(browser: Browser, user: Annotated[str, Form()]) -> RedirectResponse:
    await browser.login(user)
    return RedirectResponse("/who", 303)


@app.post("/logout")
def log_out(browser: Browser) -> RedirectResponse:
    browser.logout()
    return RedirectResponse("/who", 303)


@app.get("/who")
async def who(
    request: Request, page: Annotated[guado.PageHandle | None, Depends(guado_page)]
) -> dict[str, Any]:
    return {
        "user": request.user.display_name or None,
        "page": page and page.id,
        "template": "nobody" if not request.user.is_authenticated else request.user.username,
    }


@app.get("/open")
async def open_page() -> PlainTextResponse:
    return PlainTextResponse(guado.new_page())


@app.post("/private")
def private(user: User) -> dict[str, Any]:
    return {"told": guado.user(user).push("for you").result(30).pages}


@app.post("/page")
async def page(page: Page) -> dict[str, Any]:
    page.store["times"] = page.store.get("times", 0) + 1
    told = await page.push("for the page")
    return {"told": told.pages, "times": page.store["times"]}


@app.post("/count")
async def count(request: Request) -> dict[str, Any]:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return {"visits": request.session["visits"]}


@app.websocket("/socket")
async def socket(
    websocket: WebSocket,
    user: Annotated[str | None, Depends(guado_user)],
    page: Annotated[guado.PageHandle | None, Depends(guado_page)],
) -> None:
    await websocket.accept()
    visits = websocket.session.get("visits", 0)
    await websocket.send_json({"user": user, "page": page and page.id, "visits": visits})
    await websocket.close()


@app.post("/forget")
def forget(request: Request) -> dict[str, Any]:
    request.session.clear()
    return {"visits": 0}
