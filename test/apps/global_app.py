"""Two applications that do with the global store what they are asked: POST [method, args…]."""

import asyncio
import json
import os
import pathlib
import time

import global_task
import guado


def do(asked):
    store = guado.global_store()
    name, *args = asked
    if name == "len":
        return len(store)
    if name == "contains":
        return args[0] in store
    if name == "write_and_read":  # without waiting for what is written
        for path, value in args[0]:
            store.set(path, value)
        return [store.get(path) for path, _ in args[0]]
    if name == "claim":  # until one call of compare_and_set has won
        path, times = args
        for _ in range(times):
            while True:
                old = store.get(path, guado.MISSING)
                if store.compare_and_set(path, old, (old or 0) + 1).result():
                    break
        return store.get(path)
    if name == "publish_after":
        topic, path, values = args
        for value in values:
            store[path] = value
            guado.publish(topic, value)
        return None
    if name == "store":
        return of_store(*args)
    if name == "execute":
        return guado.executor("cpu").submit(global_task.work, *args).result()
    if name == "dbevent":
        return guado.dbevent(*args).result()
    if name == "dbevents":
        with guado.dbevents() as changes:
            for one in args:
                changes.add(*one)
        return changes.result.result()
    if name == "subscribe_table":
        return guado.page(args[0]).subscribe_table(args[1]).result()
    result = getattr(store, name)(*args)
    return result.result() if hasattr(result, "result") else result


def of_store(of, id, method, *args):
    """Of the group with the state it is the store, of others the way to it."""
    store = guado.page(id).store if of == "page" else guado.user(id).store
    if method == "count":  # a counter under the lock of each write
        for _ in range(args[1]):
            with store.transaction():
                store[args[0]] = store.get(args[0], 0) + 1
        return store[args[0]]
    if method == "both":  # counts in two ways between which somebody else counts, too
        for _ in range(args[0]):
            store.add("by.add")
            while True:
                old = store.get("by.compare", guado.MISSING)
                if store.compare_and_set("by.compare", old, (old or 0) + 1):
                    break
        return None
    if method == "hold":  # the store's lock, until a file is there
        with store.transaction():
            pathlib.Path(args[0] + ".begun").touch()
            while not os.path.exists(args[0]):
                time.sleep(0.01)
        return None
    if method == "briefly":
        store.patience = 0.2
        method, *args = args
    if method == "times":
        return [store.append(args[0], n) for n in range(args[1])][-1]
    if method == "share":
        return guado.page(id).share(args[0], over="requests")
    if method == "tell":
        return store.set(args[0], args[1], reason=args[2], attributes=args[3])
    if method == "login":
        return guado.connection().login(id).result()
    result = store[args[0]] if method == "[]" else getattr(store, method)(*args)
    return result if isinstance(result, (dict, list, str, int, float)) else repr(result)


def answer(text):
    try:
        return {"result": do(json.loads(text))}
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"error": kinds, "code": getattr(error, "code", ""), "message": str(error)}


def wsgi(environ, start_response):
    body = json.dumps(answer(environ["wsgi.input"].read())).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


class Rows(guado.Page):
    """Shows the rows of a table."""

    def on_open(self, *, reopened=False):
        self.subscribe_table("invoice").result()

    def on_event(self, topic, data):
        self.push([topic, data])

    def on_message(self, data):
        guado.dbevent("invoice", "update", data).result()
        return "told"


heard = []


@guado.on("tick")
def hear(topic, data):
    heard.append([data, guado.global_store().get("tick")])


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    asked = json.loads(body)
    if asked[0] == "heard":
        found = {"result": heard[:]}
    elif asked[0] == "thread":
        found = await asyncio.to_thread(answer, json.dumps(asked[1:]))
    elif asked[0] == "awaited":
        store = guado.global_store()
        await store.set(asked[1], asked[2])
        found = {"result": [store[asked[1]], await store.read(asked[1], fresh=True)]}
    else:
        found = answer(body)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(found).encode()})
