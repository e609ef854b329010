"""WSGI lines 11 and 12: wsgi.input and Expect: 100-continue."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from wsgi_fixtures import worker
from wsgi_host import Answer, WsgiWorker

__all__ = ["worker"]

NO_LENGTH, EXPECT = 1, 2


def script(worker: WsgiWorker, steps: str, body: bytes, **options: Any) -> Any:
    answer = worker.post("/read_script", body, query=steps.encode(), **options)
    assert answer.status == 200, (answer, worker.logs)
    return answer.json()


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize(
    ("steps", "body", "results"),
    [
        ("read()", b"abc", ["abc"]),
        ("read(-1)", b"abc", ["abc"]),
        ("read(-5)", b"abc", ["abc"]),
        ("read(None)", b"abc", ["abc"]),
        ("read(0);read()", b"abc", ["", "abc"]),
        ("read(2);read(2);read(2);read()", b"abc", ["ab", "c", "", ""]),
        ("read(100000)", b"abc", ["abc"]),
        ("readline();readline();readline();readline()", b"a\nbc\r\nd", ["a\n", "bc\r\n", "d", ""]),
        ("readline(1);readline(5);readline(5)", b"ab\ncd", ["a", "b\n", "cd"]),
        ("readline(0);readline(-1);readline(None)", b"a\nb\n", ["", "a\n", "b\n"]),
        ("readline();read()", b"a\nrest\nof it", ["a\n", "rest\nof it"]),
        ("readline();read(3);readline()", b"a\nrest\nof it", ["a\n", "res", "t\n"]),
        ("read(1);readline();read1()", b"ab\ncd", ["a", "b\n", "cd"]),
        ("readlines()", b"a\nb\nc", [["a\n", "b\n", "c"]]),
        ("readlines(3);readlines(0)", b"a\nb\nc\n", [["a\n", "b\n"], ["c\n"]]),
        ("list();list();read()", b"a\n\nb", [["a\n", "\n", "b"], [], ""]),
        ("next();read()", b"a\nb", ["a\n", "b"]),
        (
            "readinto(2);readinto(5);readinto(5)",
            b"abc",
            [[2, "ab"], [1, "c\0\0\0\0"], [0, "\0\0\0\0\0"]],
        ),
        (
            "read();readline();readlines();list();readinto(1);read1()",
            b"",
            ["", "", [], [], [0, "\0"], ""],
        ),
    ],
)
def test_line_11_reads_give_what_a_file_gives(
    worker: WsgiWorker, steps: str, body: bytes, results: list[Any], length: str
) -> None:
    options = {"length": -1} if length == "unknown" else {}
    assert script(worker, steps, body, **options) == results


def test_line_11_the_end_of_iteration_is_stop_iteration(worker: WsgiWorker) -> None:
    assert script(worker, "next()", b"")[0]["error"] == "StopIteration"


def test_line_11_wrong_arguments_are_type_errors(worker: WsgiWorker) -> None:
    for error in script(worker, "read(1,2);readline(1,2);readlines(1,2)", b"a"):
        assert error["error"] == "TypeError"


def steps_of(chance: random.Random) -> list[str]:
    kinds = ["read(%d)", "readline(%d)", "readline()", "readlines(%d)", "readinto(%d)", "read(-1)"]
    weights = [6, 4, 6, 2, 3, 1]
    sizes = [0, 1, 2, 7, 100, 4096, 8191, 8192, 8193, 70000]
    steps = []
    for kind in chance.choices(kinds, weights, k=chance.randrange(1, 12)):
        steps.append(kind % chance.choice(sizes) if "%" in kind else kind)
    return [*steps, "read()"]


def on_a_file(steps: list[str], body: bytes) -> list[Any]:
    source, results = io.BytesIO(body), []
    for step in steps:
        method, _, argument = step.rstrip(")").partition("(")
        arguments = [int(argument)] if argument else []
        if method == "readinto":
            target = bytearray(arguments[0])
            results.append([source.readinto(target), target.decode("latin-1")])
        elif method == "readlines":
            results.append([x.decode("latin-1") for x in source.readlines(*arguments)])
        else:
            results.append(getattr(source, method)(*arguments).decode("latin-1"))
    return results


@pytest.mark.parametrize("seed", range(30))
def test_line_11_any_sequence_of_reads_gives_what_a_file_gives(
    worker: WsgiWorker, seed: int
) -> None:
    chance = random.Random(seed)
    body = b"".join(
        bytes([chance.randrange(256)]) * chance.choice([0, 1, 50, 9000])
        + b"\n" * chance.randrange(3)
        for _ in range(chance.randrange(8))
    )
    steps = steps_of(chance)
    length = chance.choice([len(body), -1])
    answer = worker.call(
        "/read_script", method="POST", query=";".join(steps).encode(), complete=False, length=length
    )
    worker.stream_body(answer, body, lambda: chance.choice([1, 100, 5000, 60000]))
    assert worker.wait(answer).json() == on_a_file(steps, body)


def test_line_11_a_read_never_waits_beyond_content_length(worker: WsgiWorker) -> None:
    answer = worker.call(
        "/read_script",
        method="POST",
        query=b"read(100);read();readline()",
        length=3,
        complete=False,
    )
    worker.body(answer, b"abc")  # no END follows
    assert worker.wait(answer).json() == ["abc", "", ""]


@pytest.mark.parametrize(
    "steps", ["read()", "read(10)", "readline()", "readlines()", "list()", "readinto(10)"]
)
@pytest.mark.parametrize("length", [10, -1])
def test_line_11_a_cut_body_never_looks_complete(
    worker: WsgiWorker, steps: str, length: int
) -> None:
    answer = worker.call(
        "/read_script",
        method="POST",
        query=f"{steps};{steps};read(1);readline()".encode(),
        length=length,
        complete=False,
    )
    worker.body(answer, b"half")
    worker.body(answer, b"", cut=True)
    for result in worker.wait(answer).json():  # type: ignore[attr-defined]
        assert (result["error"], result["type"]) == ("OSError", "BodyCut")


def test_line_11_a_body_shorter_than_its_length_is_cut(worker: WsgiWorker) -> None:
    answer = worker.call("/read_script", method="POST", query=b"read()", length=10, complete=False)
    worker.body(answer, b"half", end=True)
    assert worker.wait(answer).json()[0]["type"] == "BodyCut"  # type: ignore[index]


def test_line_11_what_came_before_the_cut_can_be_read(worker: WsgiWorker) -> None:
    answer = worker.call(
        "/read_script", method="POST", query=b"read(4);read(1)", length=10, complete=False
    )
    worker.body(answer, b"half")
    worker.body(answer, b"", cut=True)
    first, second = worker.wait(answer).json()  # type: ignore[misc]
    assert first == "half"
    assert second["type"] == "BodyCut"


def test_line_11_an_uncaught_cut_is_not_the_applications_error(worker: WsgiWorker) -> None:
    answer = worker.call("/read_uncaught", method="POST", length=10, complete=False)
    worker.body(answer, b"", cut=True)
    assert worker.wait(answer).abort == (3, "")
    assert worker.errors() == []


def test_line_11_input_is_terminated(worker: WsgiWorker) -> None:
    e = worker.json("/dump", method="POST", body=b"abc", length=-1)["environ"]
    assert e["wsgi.input_terminated"] is True
    assert "CONTENT_LENGTH" not in e


def test_a_disconnect_wakes_a_reader(worker: WsgiWorker) -> None:
    worker.journal()
    answer = worker.call("/note_read", method="POST", length=10, complete=False)
    worker.body(answer, b"half")
    worker.until(lambda: worker.started(answer))
    worker.cancel(answer)
    worker.wait(answer)
    assert worker.journal() == ["ClientDisconnected"]
    assert answer.abort == (3, "")


def test_bodies_larger_than_any_buffer_pass_under_credit(worker: WsgiWorker) -> None:
    body = bytes(range(256)) * (8 << 12)
    answer = worker.call("/count", method="POST", length=len(body), complete=False)
    worker.stream_body(answer, body, lambda: 32768)
    assert worker.wait(answer).json() == len(body)


def test_a_large_inline_body_is_one_bytes_object(worker: WsgiWorker) -> None:
    body = random.Random(1).randbytes(600_000)
    assert worker.post("/echo", body).body == body


def test_reads_of_one_request_do_not_hold_up_others(worker: WsgiWorker) -> None:
    with WsgiWorker(threads=2) as own:
        blocked = own.call("/echo", method="POST", length=4, complete=False)
        assert own.get("/hello").body == b"hello"
        own.body(blocked, b"late", end=True)
        assert own.wait(blocked).body == b"late"


def test_another_threads_read_ends_before_the_exchange_does(worker: WsgiWorker) -> None:
    worker.journal()
    answer = worker.call("/read_elsewhere", method="POST", length=4, complete=False)
    worker.until(lambda: answer.ended)
    assert answer.body == b'"answered"'
    if not answer.over:
        worker.body(answer, b"data", end=True)
        worker.wait(answer)
        assert worker.journal()[-1] == "data"


def continued(answer: Answer) -> bool:
    return [status for status, _ in answer.informational] == [100]


def test_line_12_the_first_read_asks_for_the_body(worker: WsgiWorker) -> None:
    answer = worker.call("/read_late", method="POST", length=4, complete=False, flags=EXPECT)
    assert worker.quiet(lambda: answer.informational)
    worker.open("read_late")
    worker.until(lambda: continued(answer))
    worker.body(answer, b"body", end=True)
    assert worker.wait(answer).json() == "body"
    assert continued(answer)


def test_line_12_without_a_read_the_final_answer_comes_alone(worker: WsgiWorker) -> None:
    answer = worker.call("/ignores_body", method="POST", length=4, complete=False, flags=EXPECT)
    assert worker.wait(answer).json() == "ignored"
    assert answer.informational == []


def test_line_12_without_expect_there_is_no_100(worker: WsgiWorker) -> None:
    assert worker.post("/echo", b"body").informational == []
