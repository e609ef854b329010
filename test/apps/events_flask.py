"""A Flask application that publishes events, and hears some."""

from typing import Any

import events_task
import guado
from events_heard import hear
from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@guado.on("invoice.*")
def archive(topic: str, data: Any) -> None:
    hear("flask", topic, data)


@app.get("/")
def index() -> str:
    return "flask"


@app.post("/publish")
def publish() -> Response:
    event = request.get_json()
    counts = [guado.publish(event["topic"], n) for n in range(event["first"], event["end"])]
    last = counts[-1].result()
    return jsonify(pages=last.pages, workers=last.workers)


@app.post("/executor")
def executor() -> Response:
    event = request.get_json()
    task = guado.executor("cpu").submit(events_task.publish, event["topic"], event["data"])
    pages, workers = task.result()
    return jsonify(pages=pages, workers=workers)


@app.post("/subscribe")
def subscribe() -> Response:
    wish = request.get_json()
    try:
        guado.page(wish["page"]).subscribe(wish["topic"]).result()
    except guado.HostError as error:
        return jsonify(error.code)
    except ValueError:
        return jsonify("no topic")
    return jsonify("ok")


@app.post("/login")
def login() -> str:
    guado.connection().login(request.get_json()["user"])
    return "in"
