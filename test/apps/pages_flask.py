"""A WSGI application that knows nothing of sockets: its pages ask it over theirs."""

import os
import threading

from flask import Flask, jsonify, request, session

app = Flask(__name__)
app.secret_key = "for tests"
gate = threading.Event()


@app.get("/")
def index():
    return "hello"


@app.post("/whoami")
def whoami():
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
def count():
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(session["visits"])


@app.post("/login")
def login():
    return "in", {"Guado-User": request.get_json(force=True)["user"]}


@app.post("/logout")
def logout():
    return "out", {"Guado-User": ""}


@app.post("/wait")
def wait():
    gate.wait(30)
    return "waited"


@app.post("/open")
def open_gate():
    gate.set()
    return "open"


@app.post("/die")
def die():
    os._exit(9)
