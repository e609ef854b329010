"""Push from programs and shells: HTTP over the socket that the host gives them."""

from __future__ import annotations

import datetime
import decimal
import gc
import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import guado
from guado import _calls, _http, _json

PATIENCE = 40.0

# Nothing may be left open: neither here nor in a program that uses the package.
pytestmark = [
    pytest.mark.filterwarnings("error::ResourceWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]


class PushSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The host's end."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.lock = threading.Lock()
        self.asked: list[tuple[str, str, Any]] = []
        self.answer: tuple[int, Any] = (200, {"pages": 2, "connected": 1})
        self.connections = 0
        self.hold = threading.Event()
        self.hold.set()
        self.hang_up = False
        self.ended = threading.Semaphore(0)  # connections that are closed

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.ended.release()


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: PushSocket

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.asked.append((self.path, self.headers["Authorization"], data))
        if self.path == "/v1/push.wait":
            server.hold.wait(PATIENCE)
        status, answer = server.answer
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = server.hang_up

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushSocket]:
    path = tmp_path / "push.sock"
    server = PushSocket(str(path))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("GUADO_PUSH", f"unix:{path}")
    monkeypatch.setenv("GUADO_PUSH_TOKEN", "secret")
    monkeypatch.setattr(_http, "_shared", None)
    yield server
    server.hold.set()
    monkeypatch.setattr(_http, "_shared", None)
    gc.collect()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_program_pushes_and_publishes(host: PushSocket) -> None:
    assert guado.page("P1").push({"n": 1}).result(PATIENCE) == guado.Delivered(2, 1, None)
    guado.user("anna").push("è").result(PATIENCE)
    host.answer = 200, {"pages": 2, "connected": 1, "acknowledged": 1}
    assert guado.broadcast(1, ack=True, timeout=2).result(PATIENCE).acknowledged == 1
    host.answer = 200, {"pages": 0, "workers": 3}
    assert guado.publish("a.b", [1]).result(PATIENCE) == guado.Published(0, 3)
    assert host.asked == [
        ("/v1/push", "Bearer secret", {"to": {"page": "P1"}, "data": {"n": 1}}),
        ("/v1/push", "Bearer secret", {"to": {"user": "anna"}, "data": "è"}),
        ("/v1/push.wait", "Bearer secret", {"to": {"all": True}, "data": 1, "timeout_ms": 2000}),
        ("/v1/publish", "Bearer secret", {"topic": "a.b", "data": [1]}),
    ]


def test_pushes_arrive_in_their_order_over_one_connection(host: PushSocket) -> None:
    deliveries = [guado.broadcast(i) for i in range(500)]
    for one in deliveries:
        one.result(PATIENCE)
    assert [data["data"] for _, _, data in host.asked] == list(range(500))
    assert host.connections == 1


def test_one_that_waits_for_its_client_does_not_hold_the_others(host: PushSocket) -> None:
    host.hold.clear()
    waits = guado.broadcast("waits", ack=True)
    assert guado.broadcast("goes").result(PATIENCE).pages == 2
    assert not waits.done()
    host.hold.set()
    assert waits.result(PATIENCE).pages == 2


def test_a_connection_that_the_host_has_closed_is_not_used_again(host: PushSocket) -> None:
    host.hang_up = True
    for _ in range(5):
        guado.broadcast(1).result(PATIENCE)
        assert host.ended.acquire(timeout=PATIENCE)
    assert len(host.asked) == 5


def test_refusals_are_those_of_workers(host: PushSocket) -> None:
    host.answer = 404, {"error": {"code": "no_page", "message": "there is no page P1"}}
    with pytest.raises(guado.NoPage, match="there is no page P1"):
        guado.page("P1").push(1).result(PATIENCE)
    host.answer = 401, {"error": {"code": "bad_token", "message": "who are you"}}
    with pytest.raises(guado.HostError, match="who are you") as caught:
        guado.broadcast(1).result(PATIENCE)
    assert caught.value.code == "bad_token"
    host.answer = 500, "what"
    with pytest.raises(guado.HostError, match="what") as caught:
        guado.broadcast(1).result(PATIENCE)
    assert caught.value.code == "http_500"


def test_a_host_that_is_gone_is_an_error_of_the_push(
    host: PushSocket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GUADO_PUSH", f"unix:{tmp_path}/nobody")
    with pytest.raises(guado.HostError, match=r"no answer from the host at .*nobody") as caught:
        guado.broadcast(1).result(PATIENCE)
    assert caught.value.code == "no_host"
    monkeypatch.setattr(_http, "_shared", None)
    for wrong in ("", "tcp:1", "unix:"):
        monkeypatch.setenv("GUADO_PUSH", wrong)
        with pytest.raises(guado.HostError, match="this process has no host"):
            guado.broadcast(1)


def script(text: str) -> None:
    """Runs a program that uses the package, to its end."""
    package = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        # Where threads have run, fork is deprecated; a socket left open is no matter of taste.
        [sys.executable, "-W", "ignore", "-W", "always::ResourceWarning", "-c", text],
        cwd=package,
        capture_output=True,
        timeout=PATIENCE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_script_pushes_at_its_end_is_sent(host: PushSocket) -> None:
    script("import guado\nfor n in range(50): guado.broadcast(n)\n")
    assert [data["data"] for _, _, data in host.asked] == list(range(50))


def test_a_forked_child_of_a_program_pushes_too(host: PushSocket) -> None:
    script(
        "import guado, os\n"
        "guado.broadcast('parent').result()\n"
        "if os.fork() == 0: guado.broadcast('child').result()\n"
        "else: os.wait()\n"
    )
    assert [data["data"] for _, _, data in host.asked] == ["parent", "child"]


def test_a_push_that_was_taken_back_is_not_sent(host: PushSocket) -> None:
    host.hold.clear()
    busy = [guado.broadcast(n, ack=True) for n in range(_http.WAITING)]
    late = guado.broadcast("late", ack=True)
    assert late.cancel()
    host.hold.set()
    for one in busy:
        one.result(PATIENCE)
    assert "late" not in [data["data"] for _, _, data in host.asked]


# -- the link, and what can be sent


class Link:
    """A link that the test ends."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.called: list[tuple[int, bytes]] = []

    def call(self, number: int, data: bytes) -> None:
        self.called.append((number, data))
        if self.closed.is_set():
            raise OSError("the host is gone")

    def call_cancel(self, number: int) -> None: ...

    def replies(self) -> list[tuple[int, bytes]]:
        self.closed.wait(PATIENCE)
        raise OSError("the host is gone")


def vector(name: str) -> bytes:
    """The payload of a golden frame (protocol/vectors)."""
    text = Path(__file__).resolve().parents[2].joinpath("protocol/vectors/frames.txt").read_text()
    block = text.split(f"frame {name}\n", 1)[1].split("\nend", 1)[0]
    words = dict(line.split(" ", 1) for line in block.splitlines())
    return bytes.fromhex(words["frame"])[16 : int(words["size"])]


def test_what_is_asked_and_answered_is_that_of_the_golden_vectors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link()
    monkeypatch.setattr(guado, "_worker", guado._Worker(link, {}, 3))  # type: ignore[arg-type]
    delivery = guado.user("anna").push([1, "è"])
    ((number, data),) = link.called
    assert data == vector("call-host")
    _calls.shared().settle(number, vector("reply-host"))
    assert delivery.result(PATIENCE) == (2, 1, None)
    refused = guado.user("anna").push(1)
    _calls.shared().settle(link.called[1][0], vector("reply-refused"))
    with pytest.raises(guado.HostError, match="all processes work") as caught:
        refused.result(PATIENCE)
    assert caught.value.code == "queue_full"
    link.closed.set()


def test_when_the_link_ends_all_who_wait_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    worker = guado._Worker(link, {}, 3)  # type: ignore[arg-type]
    monkeypatch.setattr(guado, "_worker", worker)
    monkeypatch.setattr(_calls, "MOST_CALLS", 2)
    under_way = [guado.broadcast(1), guado.broadcast(2)]
    refused: list[str] = []

    def third() -> None:
        try:
            guado.broadcast(3).result(PATIENCE)
        except guado.HostError as error:
            refused.append(error.code)

    waits = threading.Thread(target=third)  # there is no room for it
    waits.start()
    link.closed.set()
    waits.join(PATIENCE)
    for one in under_way:
        with pytest.raises(guado.HostError, match="the host is gone") as caught:
            one.result(PATIENCE)
        assert caught.value.code == "link_closed"
    assert refused == ["link_closed"]
    with pytest.raises(guado.HostError, match="the host is gone"):
        guado.broadcast(4).result(PATIENCE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_replies_cannot_be_read_all_who_wait_hear_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link()
    monkeypatch.setattr(guado, "_worker", guado._Worker(link, {}, 3))  # type: ignore[arg-type]
    monkeypatch.setattr(link, "replies", lambda: [()])  # no pair
    waits = guado.broadcast(1)
    with pytest.raises(guado.HostError, match="no longer read: ValueError") as caught:
        waits.result(PATIENCE)
    assert caught.value.code == "link_closed"
    for thread in threading.enumerate():
        if thread.name == "guado-calls":  # so that its exception is told in this test
            thread.join(PATIENCE)


def circle() -> Any:
    around: list[Any] = []
    around.append(around)
    return {"a": around}


def deep() -> Any:
    nested: Any = 1
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (
            {"a": [1, {"b": {2}}]},
            TypeError,
            r"data\['a'\]\[1\]\['b'\] is of type set, .*a list of it",
        ),
        (
            decimal.Decimal(1),
            TypeError,
            r"data is of type Decimal, .*str\(value\) or float\(value\)",
        ),
        ([datetime.datetime(2026, 1, 1)], TypeError, r"data\[0\] is of type datetime, .*isoformat"),
        (object(), TypeError, r"data is of type object, which JSON does not have$"),
        (
            {(1, 2): 3},
            TypeError,
            r"data has the key \(1, 2\) of type tuple: JSON has text for keys",
        ),
        ({"x": float("nan")}, ValueError, r"data\['x'\] is nan: JSON has no such number"),
        ([float("inf")], ValueError, r"data\[0\] is inf"),
        ("\ud800", ValueError, "half of a surrogate pair"),
        ({"\ud800": 1}, ValueError, "half of a surrogate pair"),
        (circle(), ValueError, r"data\['a'\]\[0\] holds itself"),
        (deep(), ValueError, "is nested too deeply"),
    ],
    ids=range(11),
)
def test_what_is_no_json_is_named(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        _json.encode(value)


def test_json_is_compact_and_keeps_its_letters() -> None:
    value = {"a": [1, 2.5, None, True, (3,)], "è": "π\n", 1: "x"}
    assert _json.encode(value) == '{"a":[1,2.5,null,true,[3]],"è":"π\\n","1":"x"}'.encode()


def test_arguments_that_make_no_sense_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="is for ack=True"):
        guado.broadcast(1, timeout=1)
    with pytest.raises(ValueError, match="more than 0 seconds"):
        guado.broadcast(1, ack=True, timeout=0)
    with pytest.raises(TypeError, match="the name of a user is text, not 7"):
        guado.user(7)  # type: ignore[arg-type]
    with pytest.raises(guado.NoRequest):
        guado.connection()
