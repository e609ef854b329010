"""A Flask application with the extension: pages, logins, sessions."""

from __future__ import annotations

import os
from typing import Any

import guado
from flask import Flask, g, redirect, render_template_string, request, session
from guado.adapters.flask import Guado, login, login_required, logout

app = Flask(__name__)
app.config["GUADO_LOGIN_VIEW"] = "login_form" if os.environ.get("LOGIN_VIEW") else None
Guado(app, sessions=True)


@app.get("/")
def login_form() -> str:
    return "who are you?"


@app.post("/login")
def log_in() -> Any:
    login(request.form["user"])
    return redirect("/who")


@app.post("/logout")
def log_out() -> Any:
    logout()
    return redirect("/who")


@app.get("/who")
def who() -> dict[str, Any]:
    return {
        "user": g.guado_user,
        "page": g.guado_page and g.guado_page.id,
        "template": render_template_string("{{ guado_user or 'nobody' }}"),
    }


@app.get("/open")
def open_page() -> str:
    return guado.new_page()


@app.post("/private")
@login_required
def private() -> dict[str, Any]:
    return {"told": guado.user(g.guado_user).push("for you").result(30).pages}


@app.post("/page")
def page() -> tuple[dict[str, Any], int]:
    if g.guado_page is None:
        return {"error": "no page"}, 400
    kept = g.guado_page.store
    kept["times"] = kept.get("times", 0) + 1
    told = g.guado_page.push("for the page").result(30)
    return {"told": told.pages, "times": kept["times"]}, 200


@app.post("/count")
def count() -> dict[str, Any]:
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"]}


@app.post("/forget")
def forget() -> dict[str, Any]:
    session.clear()
    return {"visits": 0}
