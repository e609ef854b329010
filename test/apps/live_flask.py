"""A Flask application with live pages."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import guado
import live_jobs
from flask import Flask, jsonify, request

app = Flask(__name__)


class Board(guado.Page):
    """Plain handlers, in the threads that serve requests."""

    def on_open(self, *, reopened: bool = False) -> None:
        self.count = 0
        self.push({"opened": self.args, "reopened": reopened})

    def on_message(self, data: Any) -> Any:
        match data:
            case {"subscribe": topic}:
                self.subscribe(topic).result()
            case {"kill": _}:
                os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        return self.count

    def on_event(self, topic: str, data: Any) -> None:
        self.push({"heard": [topic, data]})


@guado.on("invoice.*")
def archive(topic: str, data: Any) -> None:
    guado.broadcast({"archived": data})


@app.get("/html")
def html() -> str:
    return guado.new_page(Board, room=2)


@app.post("/<how>")
def act(how: str) -> Any:
    what = request.get_json()
    match how:
        case "direct":
            return jsonify(guado.page(what["page"]).push(how, ack=True, timeout=20).result(30))
        case "thread":
            pushed: list[Any] = []

            def push() -> None:
                pushed.append(guado.page(what["page"]).push(how).result(30))

            thread = threading.Thread(target=push)
            thread.start()
            thread.join(30)
            return jsonify(pushed[0])
        case "executor":
            task = guado.executor("cpu").submit(live_jobs.push, what["page"], how)
            return jsonify(task.result(30))
        case "publish":
            return jsonify(guado.publish(what["topic"], what["data"]).result(30))
        case "login":
            guado.connection().login(what["user"])
            return jsonify([guado.connection().user])
        case "user":
            return jsonify(guado.user(what["user"]).push(how).result(30))
        case "mine":
            return jsonify(guado.connection().push(how).result(30))
    return jsonify([]), 404
