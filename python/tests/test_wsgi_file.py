"""WSGI line 13: wsgi.file_wrapper."""

from __future__ import annotations

import os

import pytest
from wsgi_fixtures import worker
from wsgi_host import Answer, WsgiWorker, raised

__all__ = ["worker"]

FILE, COMMIT = 0x47, 0x42
END, BUSY = 1, 4
BIG = bytes(range(256)) * 4096


def sent(worker: WsgiWorker, answer: Answer) -> bytes:
    """The bytes that the host sends from the descriptor."""
    [(sequence, offset, count)] = answer.files
    fd = worker.descriptor(answer, sequence)
    try:
        return os.pread(fd, count, offset)
    finally:
        os.close(fd)


@pytest.mark.parametrize("how", ["buffered", "raw"])
@pytest.mark.parametrize("at", [0, 1000])
def test_line_13_a_plain_file_goes_by_descriptor_from_its_position(
    worker: WsgiWorker, how: str, at: int
) -> None:
    answer = worker.get("/file", query=f"how={how}&at={at}".encode())
    skipped = at + 10 if at and how == "buffered" else at
    assert answer.length == len(BIG) - skipped
    assert answer.body == b""
    assert answer.flags[-2:] == [END | BUSY, 0]
    assert sent(worker, answer) == BIG[skipped:]
    assert answer.done


def test_line_13_a_smaller_content_length_is_honoured(worker: WsgiWorker) -> None:
    answer = worker.get("/file", query=b"how=raw&at=256&declare=100000")
    assert answer.length == 100_000
    assert sent(worker, answer) == BIG[256:100_256]


def test_line_13_a_file_shorter_than_its_content_length_is_cut(worker: WsgiWorker) -> None:
    answer = worker.get("/file", query=b"how=raw&declare=2000000")
    assert sent(worker, answer) == BIG
    assert not answer.ended
    assert answer.abort is not None
    assert "sent 1048576 bytes of the 2000000" in answer.abort[1]


def test_line_13_close_is_the_files_own_and_runs_after_the_last_byte(worker: WsgiWorker) -> None:
    worker.journal()
    worker.get("/file", query=b"how=buffered")
    assert worker.journal() == ["file close"]
    assert worker.json("/file_closed") is True
    worker.get("/file", query=b"how=raw")
    assert worker.json("/file_closed") is True


def test_line_13_head_sends_no_file(worker: WsgiWorker) -> None:
    worker.journal()
    answer = worker.get("/file", query=b"how=buffered", method="HEAD")
    assert (answer.length, answer.files, answer.body) == (len(BIG), [], b"")
    assert worker.journal() == ["file close"]


def test_line_13_the_end_of_a_file_is_small_enough_for_one_frame(worker: WsgiWorker) -> None:
    answer = worker.get("/file", query=b"how=end&at=1000")
    assert (answer.kinds, answer.files) == ([COMMIT, 0x4E], [])
    assert (answer.length, answer.body) == (1000, BIG[-1000:])
    answer = worker.get("/file", query=b"how=end&at=1000&declare=10")
    assert (answer.length, answer.body) == (10, BIG[-1000:-990])


@pytest.mark.parametrize(
    ("how", "body"),
    [
        ("subclass", BIG),
        ("reader+subclass", BIG),
        ("memory", b"in memory " * 2000),
        ("pipe", b"from a pipe"),
        ("noclose", b"no close"),
    ],
)
def test_line_13_anything_else_is_iterated(worker: WsgiWorker, how: str, body: bytes) -> None:
    answer = worker.get("/file", query=f"how={how}".encode())
    assert (answer.files, answer.body, answer.ended) == ([], body, True)
    answer = worker.get("/file", query=f"how={how}&default=1".encode())
    assert answer.body == body


def test_line_13_a_file_without_a_size_is_iterated(worker: WsgiWorker) -> None:
    answer = worker.get("/file", query=b"how=proc")
    assert answer.body.endswith(b"\n")
    assert len(answer.body) > 1


def test_line_13_a_closed_file_is_the_applications_error(worker: WsgiWorker) -> None:
    answer = worker.get("/file", query=b"how=closed")
    assert raised(answer) == "ValueError: read of closed file"
    assert "ValueError: read of closed file" in worker.errors()[-1]


def test_line_13_middleware_may_wrap_it(worker: WsgiWorker) -> None:
    answer = worker.get("/file", query=b"how=memory&middleware=1")
    assert answer.body == b"IN MEMORY " * 2000
    assert len(answer.chunks) == 3


def test_line_13_no_descriptor_stays_open(worker: WsgiWorker) -> None:
    before = len(os.listdir(f"/proc/{worker.process.pid}/fd"))
    for _ in range(20):
        sent(worker, worker.get("/file", query=b"how=buffered"))
    assert len(os.listdir(f"/proc/{worker.process.pid}/fd")) == before
