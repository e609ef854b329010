"""The golden vectors of the link (protocol/vectors), read by the Python tests: the C
decoders give what they say, and so does the test host's own encoder."""

from __future__ import annotations

import re
import sys

import link_host as h
import pytest

sys.path.insert(0, str(h.ROOT))

from guado import _core

VECTORS = h.ROOT.parent / "protocol" / "vectors"

Vector = dict[str, list[list[bytes]]]


def unescape(token: str) -> bytes:
    if token == "%":
        return b""
    return re.sub(rb"%(..)", lambda m: bytes.fromhex(m[1].decode()), token.encode())


def load(name: str) -> list[tuple[str, str, Vector]]:
    found: list[tuple[str, str, Vector]] = []
    head: list[str] | None = None
    vector: Vector = {}
    for line in (VECTORS / name).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        words = line.split(" ")
        if head is None:
            head, vector = words, {}
        elif words == ["end"]:
            found.append((head[0], head[1], vector))
            head = None
        else:
            vector.setdefault(words[0], []).append([unescape(word) for word in words[1:]])
    return found


def one(vector: Vector, key: str) -> bytes:
    return vector[key][0][0]


def number(vector: Vector, key: str) -> int:
    return int(one(vector, key))


def frames(vector: Vector) -> list[bytes]:
    return [bytes.fromhex(frame[0].decode()) for frame in vector["frame"]]


def named(vectors: list[tuple[str, str, Vector]]) -> list[object]:
    return [pytest.param(kind, vector, id=f"{kind}-{name}") for kind, name, vector in vectors]


TEXTS = [
    "id",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query",
    "target",
    "root",
    "server_name",
    "client_host",
    "traceparent",
    "body",
]


@pytest.mark.parametrize(("kind", "vector"), named(load("requests.txt")))
def test_requests_decode_to_their_values(kind: str, vector: Vector) -> None:
    payload = b""
    for frame in frames(vector):
        head = _core.decode_frame(frame, 131072)
        assert head["kind"] == h.REQUEST
        payload += frame[16 : head["size"]]
    found = _core.decode_request(payload)
    for key in ("version", "flags", "app", "length", "server_port", "client_port"):
        assert found[key] == number(vector, key), key
    assert [found["tls_version"], found["tls_cipher"]] == [int(n) for n in vector["tls"][0]]
    for key in TEXTS:
        assert found[key] == one(vector, key), key
    assert [list(field) for field in found["fields"]] == vector.get("field", [])


@pytest.mark.parametrize(("kind", "vector"), named(load("turns.txt")))
def test_turns_decode_to_their_values(kind: str, vector: Vector) -> None:
    payload = b""
    for frame in frames(vector):
        head = _core.decode_frame(frame, 131072)
        assert head["kind"] == h.TURN
        payload += frame[16 : head["size"]]
    app, (do, opened, page, user, connection, data, rest, _) = _core.decode_turn(payload)
    assert app == number(vector, "app")
    assert do == h.TURNS[number(vector, "do") - 1]
    assert opened is (number(vector, "opened") == 1)
    assert page == one(vector, "page").decode()
    assert user == (one(vector, "user").decode() or None)
    assert connection == one(vector, "connection").decode()
    assert data == one(vector, "data")
    names = ("class", "args", "topic", "why")
    assert rest == b"".join(h.text(one(vector, name)) for name in names)


@pytest.mark.parametrize(("kind", "vector"), named(load("frames.txt")))
def test_frames_decode_to_their_header(kind: str, vector: Vector) -> None:
    (frame,) = frames(vector)
    found = _core.decode_frame(frame, 131072)
    assert found == {k: number(vector, k) for k in ("size", "kind", "flags", "stream", "arg")}
    made = h.encode(
        found["kind"], found["flags"], found["stream"], found["arg"], one(vector, "payload")
    )
    assert made == frame


@pytest.mark.parametrize(("kind", "vector"), named(load("heads.txt")))
def test_heads_decode_to_their_values(kind: str, vector: Vector) -> None:
    """Heads come from the worker: here they hold the test host's decoder to the truth."""
    payload = b"".join(
        frame[16 : _core.decode_frame(frame, 131072)["size"]] for frame in frames(vector)
    )
    if kind == "trailers":
        payload = b"\0\0" + payload[:2] + b"\0" * 12 + payload[2:]
    status, length, fields, rest = h.decode_head(payload)
    assert [list(field) for field in fields] == vector.get("field", [])
    if kind != "trailers":
        assert (status, length) == (number(vector, "status"), number(vector, "length"))
    if kind == "commit":
        assert rest == h.text(one(vector, "body"))


@pytest.mark.parametrize(("kind", "vector"), named(load("corrupt.txt")))
def test_what_is_corrupt_is_refused(kind: str, vector: Vector) -> None:
    data = bytes.fromhex(one(vector, "bytes").decode())
    part = one(vector, "part")
    if part == b"header":
        with pytest.raises(ValueError, match=r"corrupt|short"):
            _core.decode_frame(data, 131072)
    elif part == b"request":
        with pytest.raises(ValueError, match="corrupt"):
            _core.decode_request(data)
    elif part == b"turn":
        with pytest.raises(ValueError, match="corrupt"):
            _core.decode_turn(data)
    else:
        assert part in (b"head", b"trailers")  # the host's to refuse
