"""A browser whose user changes, over HTTP or by a message of its page."""

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import guado

PAGE = """<!doctype html><meta charset="utf-8"><title>%(user)s</title><script type="module">
import { open } from "/_guado/client.js";
window.seen = []; window.states = []; window.replies = []; window.user = document.title;
const transport = location.search === "?tab=0" ? "websocket" : "sse";
window.page = open(undefined, undefined, { transport });
page.onMessage((m) => seen.push(m));
page.onState((s) => states.push(s));
</script>"""


def become(user: str) -> None:
    if user:
        guado.connection().login(user)
    else:
        guado.connection().logout()


def wait_for(path: str) -> None:
    with open(f"{path}.begun", "w", encoding="utf-8") as f:
        f.write("begun")
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "GET":
        start_response("200 OK", [("Content-Type", "text/html")])
        return [(PAGE % {"user": guado.connection().user or "guest"}).encode()]
    asked = json.load(environ["wsgi.input"])
    answer: Any = None
    match environ["PATH_INFO"]:
        case "/as":
            become(asked["user"])
            if "hold" in asked:
                wait_for(asked["hold"])
            answer = guado.connection().user or "guest"
        case "/who":
            answer = guado.connection().user or "guest"
        case "/tell":
            answer = guado.user(asked["user"]).push({"for": asked["user"]}).result(30)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
