"""A WSGI application that knows nothing of sockets: its pages ask it over theirs."""

import os
import time

from flask import Flask, Response, jsonify, request, session

app = Flask(__name__)
app.secret_key = "for tests"


@app.get("/")
def index() -> str:
    return "hello"


@app.post("/whoami")
def whoami() -> Response:
    return jsonify(
        body=request.get_json(),
        message=request.headers.get("Guado-Message"),
        page=request.headers.get("Guado-Page"),
        connection=request.headers.get("Guado-Connection"),
        user=request.headers.get("Guado-User", ""),
        origin=request.headers.get("Origin"),
        path=request.path,
        visits=session.get("visits", 0),
    )


@app.post("/count")
def count() -> Response:
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(session["visits"])


@app.post("/login")
def login() -> tuple[str, dict[str, str]]:
    return "in", {"Guado-User": request.get_json(force=True)["user"]}


@app.post("/logout")
def logout() -> tuple[str, dict[str, str]]:
    return "out", {"Guado-User": ""}


@app.post("/wait")
def wait() -> str:
    """Waits until a file is there."""
    path = request.get_json()["file"]
    with open(f"{path}.begun", "w", encoding="utf-8") as f:
        f.write("begun")
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)
    return "waited"


@app.post("/die")
def die() -> None:
    os._exit(9)
