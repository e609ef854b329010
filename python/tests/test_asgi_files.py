"""docs/traps.md, ASGI 9: http.response.pathsend and zerocopysend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from asgi_host import BUSY, COMMIT, DONE, END, FILE, FILE_CREDIT, Answer, Worker

pytest_plugins = ["asgi_fixtures"]


@pytest.fixture
def letters(tmp_path: Path) -> bytes:
    path = tmp_path / "letters"
    path.write_bytes(b"abcdefghij")
    return bytes(path)


def content(worker: Worker, answer: Answer) -> list[bytes]:
    """What the descriptors of an answer give for their ranges."""
    parts = []
    for sequence, offset, count in answer.files:
        fd = worker.descriptor(answer, sequence)
        parts.append(os.pread(fd, count, offset))
        os.close(fd)
    return parts


def test_pathsend_sends_the_file_and_ends_the_answer(shared: Worker, letters: bytes) -> None:
    answer = shared.get("/pathsend", query=letters)
    assert answer.kinds == [COMMIT, FILE, DONE]
    assert answer.flags[1] == END | BUSY
    assert answer.length == 10
    assert content(shared, answer) == [b"abcdefghij"]


def test_pathsend_of_an_empty_file_ends_the_answer_too(shared: Worker, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    answer = shared.get("/pathsend", query=bytes(empty))
    assert (answer.length, answer.files, answer.ended) == (0, [], True)


def test_pathsend_to_head_sends_no_file(shared: Worker, letters: bytes) -> None:
    answer = shared.get("/pathsend", method="HEAD", query=letters)
    assert (answer.length, answer.files, answer.ended) == (10, [], True)


def test_pathsend_is_once_alone_absolute_and_a_regular_file(shared: Worker) -> None:
    errors = shared.get("/pathsend-wrong").json()
    alone = (
        "RuntimeError: 'http.response.pathsend' must follow 'http.response.start' and cannot be "
        "mixed with other body messages"
    )
    text = "TypeError: 'path' of 'http.response.pathsend' must be an absolute path (str)"
    assert errors == [
        alone,
        "ValueError: 'http.response.pathsend': 'relative' is not an absolute path",
        "ValueError: '/' is not a regular file: send its bytes",
        "FileNotFoundError: [Errno 2] No such file or directory: '/does/not/exist'",
        text,
        text,
        "ValueError: '/dev/null' is not a regular file: send its bytes",
        "ValueError: embedded null byte",
        text,
        alone,
    ]


def test_zerocopysend_mixes_with_body_and_keeps_to_offset_count_and_position(
    shared: Worker, letters: bytes
) -> None:
    answer = shared.get("/zerocopy", query=letters)
    assert answer.abort is None, shared.errors()
    assert answer.body == b"<>"
    assert content(shared, answer) == [b"cde", b"fg", b"hij", b"a"]
    assert answer.flags[-2] == END | BUSY
    assert shared.seen("position") == 7


def test_a_whole_file_by_zerocopysend_has_its_length(shared: Worker, letters: bytes) -> None:
    answer = shared.get("/zerocopy-whole", query=letters)
    assert answer.length == 10
    assert content(shared, answer) == [b"abcdefghij"]
    head = shared.get("/zerocopy-whole", method="HEAD", query=letters)
    assert (head.length, head.files) == (10, [])


def test_zerocopysend_refuses_what_is_not_a_regular_file(shared: Worker) -> None:
    errors = shared.get("/zerocopy-wrong").json()
    assert isinstance(errors, list)
    assert errors[0].startswith("ValueError: ")
    assert errors[1:] == [
        "ValueError: 'offset' of 'http.response.zerocopysend' is negative",
        "TypeError: 'count' of 'http.response.zerocopysend' must be an int",
        "TypeError: argument must be an int, or have a fileno() method.",
        "TypeError: message 'http.response.zerocopysend' has no 'file'",
    ]


def test_the_application_may_close_its_file_at_once(shared: Worker, letters: bytes) -> None:
    """The descriptor was passed or duplicated before send() returned."""
    before = descriptors(shared)
    for _ in range(20):
        answer = shared.get("/zerocopy-whole", query=letters)
        assert content(shared, answer) == [b"abcdefghij"]
    assert descriptors(shared) == before


def test_files_wait_for_the_client_as_bytes_do(shared: Worker, letters: bytes) -> None:
    answer = shared.request(path="/zerocopy-many", query=letters)
    shared.until(lambda: len(answer.files) == 16)
    # send() of the 17th has not returned, others are served, and nothing more comes.
    assert shared.seen("files") == 16
    assert len(answer.files) == 16
    shared.send(FILE_CREDIT, answer.stream, arg=1)
    shared.until(lambda: len(answer.files) == 17)
    assert shared.seen("files") == 17
    shared.send(FILE_CREDIT, answer.stream, arg=100)
    shared.wait(answer)
    assert answer.abort is None
    assert b"".join(content(shared, answer)) == b"abcdefghij" * 10


def test_a_file_that_waits_for_a_client_that_leaves_raises(shared: Worker, letters: bytes) -> None:
    before = descriptors(shared)
    answer = shared.request(path="/zerocopy-many", query=letters)
    shared.until(lambda: len(answer.files) == 16)
    shared.cancel(answer)
    assert shared.wait(answer).abort is not None
    assert shared.seen("files-end") == "ClientDisconnected"
    assert len(content(shared, answer)) == 16
    assert descriptors(shared) == before


def descriptors(worker: Worker) -> int:
    return len(os.listdir(f"/proc/{worker.process.pid}/fd"))
