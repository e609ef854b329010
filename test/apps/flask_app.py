"""A Flask application that does what real ones do."""

import hashlib
import io
import threading
from collections.abc import Iterator

import sharedfile
from flask import Flask, Response, jsonify, request, send_file, session

app = Flask(__name__)
app.secret_key = "for the tests only"
gate = threading.Event()
FILE = sharedfile.path()


@app.get("/")
def index() -> str:
    """The prefix it believes to be mounted at, and the path it sees."""
    return f"flask at {request.script_root!r} sees {request.path!r}"


@app.post("/form")
def form() -> Response:
    """Form fields and files, as read by werkzeug."""
    files = {name: hashlib.sha256(f.read()).hexdigest() for name, f in request.files.items()}
    return jsonify(form=request.form.to_dict(), files=files)


@app.get("/count")
def count() -> str:
    """A counter in the signed session cookie."""
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])


@app.post("/digest")
def digest() -> Response:
    """A body read in pieces."""
    sums, size = hashlib.sha256(), 0
    while piece := request.stream.read(65536):
        sums.update(piece)
        size += len(piece)
    return jsonify(size=size, sha256=sums.hexdigest())


@app.get("/stream")
def stream() -> Response:
    """Ten lines, generated; behind the first it waits for /open."""

    def lines() -> Iterator[str]:
        for n in range(10):
            yield f"line {n}\n"
            if n == 0 and not gate.wait(60):
                raise TimeoutError("nobody has seen the first line")

    return Response(lines(), mimetype="text/plain")


@app.get("/open")
def open_() -> str:
    """Lets the stream go on."""
    gate.set()
    return "opened"


@app.get("/file")
def file() -> Response:
    """A file by wsgi.file_wrapper, with ranges."""
    return send_file(FILE, mimetype="application/octet-stream", conditional=True)


@app.get("/memory-file")
def memory_file() -> Response:
    """A file object without a descriptor: it must be iterated."""
    return send_file(io.BytesIO(b"from memory " * 1000), mimetype="text/plain")


@app.get("/error")
def error() -> str:
    """An exception that Flask turns into its own 500 page."""
    raise RuntimeError("an error in a view")
