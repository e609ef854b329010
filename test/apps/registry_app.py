"""Does with the index what a request says: verbs of guado.registry, one after the other."""

import json

import guado


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/login":
        guado.connection().login(environ["wsgi.input"].read().decode())
        answer = guado.connection().id
    elif path == "/page":
        answer = guado.new_page()
    elif path == "/who":
        answer = guado.connection().id
    else:
        answer = [run(*one) for one in json.load(environ["wsgi.input"])]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def run(kind, verb, args=(), told=None):
    registry = getattr(guado.registry, kind)
    try:
        return plain(getattr(registry, verb)(*args, **(told or {})).result())
    except guado.HostError as error:
        return {"error": error.code, "class": type(error).__name__}


def plain(value):
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, guado.registry.Item):
        out = {name: getattr(value, name) for name in value.__slots__}
        out["started"], out["last_seen"] = out["started"].isoformat(), out["last_seen"].isoformat()
        return out
    return value
