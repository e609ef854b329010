"""docs/traps.md, ASGI 6 and 9: send()."""

# ruff: noqa: E501
from __future__ import annotations

import json
from typing import Any

import pytest
from asgi_host import (
    BUSY,
    COMMIT,
    DEADLINE,
    DONE,
    END,
    GONE,
    RESPONSE_BODY,
    STOPPING,
    TAKES_TRAILERS,
    TRAILERS,
    Answer,
    Worker,
)

pytest_plugins = ["asgi_fixtures"]

START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body"}


def field(name: str, value: str) -> dict[str, list[dict[str, str]]]:
    return {"pair": [{"bytes": name}, {"bytes": value}]}


def sends(worker: Worker, *messages: dict[str, Any], **options: Any) -> tuple[Answer, list[str]]:
    """The application sends these messages; its answer and the errors send() raised."""
    answer = worker.get(
        "/order",
        method=options.pop("method", "POST"),
        body=json.dumps(messages).encode(),
        **options,
    )
    errors = worker.seen("errors")
    assert isinstance(errors, list)
    return answer, errors


def test_a_small_complete_answer_is_one_frame_with_its_length(shared: Worker) -> None:
    """response.start is held until the first body; a missing content-length is computed."""
    answer = shared.get("/hello")
    assert answer.kinds == [COMMIT, DONE]
    assert answer.flags[0] == END | BUSY
    assert (answer.status, answer.length, answer.body) == (200, 5, b"hello")
    assert answer.fields == [(b"content-type", b"text/plain")]


def test_each_chunk_leaves_at_once_and_the_head_with_the_first_even_if_empty(
    shared: Worker,
) -> None:
    """Server-sent events."""
    answer = shared.request("GET", "/stream")
    shared.until(lambda: answer.status)
    assert (answer.length, answer.body) == (-1, b"")
    shared.signal("go")
    shared.until(lambda: answer.body == b"data: 1\n\n")
    shared.signal("go on")
    shared.wait(answer)
    assert answer.chunks == [b"data: 1\n\n", b"data: 2\n\n"]
    assert answer.kinds == [COMMIT, RESPONSE_BODY, RESPONSE_BODY, RESPONSE_BODY, DONE]


def test_bodies_are_bytes_bytearray_or_memoryview_and_headers_any_iterable(
    shared: Worker,
) -> None:
    answer = shared.get("/buffers")
    assert answer.body == b"one two"
    assert answer.fields == [(b"x-a", b"1"), (b"x-b", b"2")]


def test_messages_after_the_end_are_ignored(shared: Worker) -> None:
    answer, errors = sends(
        shared,
        START,
        BODY | {"body": {"bytes": "a"}},
        BODY | {"body": {"bytes": "b"}},
        START,
        {"type": "nonsense"},
    )
    assert (answer.body, errors) == (b"a", [])


def test_header_names_are_lower_cased_and_order_and_duplicates_kept(shared: Worker) -> None:
    headers = [field("Set-Cookie", "a=1"), field("x", " v\t"), field("SET-COOKIE", "b=2")]
    answer, errors = sends(shared, START | {"headers": headers}, BODY)
    assert answer.fields == [(b"set-cookie", b"a=1"), (b"x", b"v"), (b"set-cookie", b"b=2")]
    assert errors == []


def test_transfer_encoding_and_hop_by_hop_fields_of_the_application_are_dropped(
    shared: Worker,
) -> None:
    """HTTP 2.5: servers must ignore Transfer-Encoding; framing is the host's."""
    names = ["Transfer-Encoding", "Connection", "keep-alive", "upgrade", "Proxy-Connection", "te"]
    headers = [field(name, "chunked") for name in names] + [field("trailer", "x")]
    answer, errors = sends(shared, START | {"headers": headers}, BODY)
    assert (answer.fields, errors) == ([(b"trailer", b"x")], [])


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ("close", [(b"connection", b"close")]),
        ("Upgrade, CLOSE", [(b"connection", b"close")]),
        ("closed", []),
        ("keep-alive", []),
    ],
)
def test_an_application_may_ask_for_the_end_of_the_connection(
    shared: Worker, value: str, fields: list[tuple[bytes, bytes]]
) -> None:
    answer, errors = sends(shared, START | {"headers": [field("Connection", value)]}, BODY)
    assert (answer.fields, errors) == (fields, [])


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([field("a\r\nb", "x")], "ValueError: byte 0x0d is not allowed in a header name"),
        ([field(":status", "200")], "ValueError: byte 0x3a is not allowed in a header name"),
        ([field("", "x")], "ValueError: a header name is empty, or a field is too long"),
        ([field("x", "a\r\nset-cookie: b")], "ValueError: byte 0x0d is not allowed in the value of header x"),
        ([field("x", "a\nb")], "ValueError: byte 0x0a is not allowed in the value of header x"),
        ([field("x", "a\0b")], "ValueError: byte 0x00 is not allowed in the value of header x"),
        ([{"pair": ["x", {"bytes": "y"}]}], "TypeError: header names and values must be bytes, not <class 'str'>"),
        ([{"pair": [{"bytes": "x"}, 1]}], "TypeError: header names and values must be bytes, not <class 'int'>"),
        ([{"pair": [{"bytes": "x"}]}], "ValueError: a header must be a pair of name and value"),
        (3, "TypeError: 'int' object is not iterable"),
        ([field("content-length", "-1")], "ValueError: content-length must be a decimal number"),
        ([field("content-length", "1, 1")], "ValueError: content-length must be a decimal number"),
        ([field("content-length", "")], "ValueError: content-length must be a decimal number"),
        ([field("content-length", "1" * 19)], "ValueError: content-length must be a decimal number"),
        ([field("content-length", "1"), field("content-length", "2")], "ValueError: two different content-length fields"),
        ([field("x", "y" * 1_100_000)], "ValueError: a header name is empty, or a field is too long"),
        ([field("x", "y" * 600_000)] * 2, "ValueError: the header fields of the response are too large"),
    ],
)  # fmt: skip
def test_a_wrong_header_is_a_clear_error_and_the_start_can_be_sent_again(
    shared: Worker, headers: Any, error: str
) -> None:
    answer, errors = sends(shared, START | {"headers": headers}, START, BODY)
    assert errors == [error]
    assert (answer.status, answer.fields) == (200, [])


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([BODY], "RuntimeError: the application sent 'http.response.body' where 'http.response.start' was expected"),
        ([START, START], "RuntimeError: the application sent 'http.response.start' where 'http.response.body' was expected"),
        ([{"type": "http.response.trailers"}], "RuntimeError: the application sent 'http.response.trailers' where 'http.response.start' was expected"),
        ([START, {"type": "http.response.trailers"}], "RuntimeError: the application sent 'http.response.trailers' where 'http.response.body' was expected"),
        ([{"type": "websocket.accept"}], "RuntimeError: the application sent 'websocket.accept', which this server does not know"),
        ([{"type": "http.response.push", "path": "/"}], "RuntimeError: the application sent 'http.response.push', which this server does not know"),
        ([{"status": 200}], "TypeError: message '?' has no 'type'"),
        ([{"type": 7}], "TypeError: the type of a message must be a str, not <class 'int'>"),
        ([{"type": "http.response.start"}], "TypeError: message 'http.response.start' has no 'status'"),
        ([START | {"status": "200"}], "TypeError: status must be an int, not <class 'str'>"),
        ([START | {"status": 100}], "ValueError: status 100 is not between 200 and 999"),
        ([START | {"status": 1000}], "ValueError: status 1000 is not between 200 and 999"),
        ([START, BODY | {"body": "text"}], "TypeError: the body of a response must be bytes, not <class 'str'>"),
        ([START, BODY | {"body": None}], "TypeError: the body of a response must be bytes, not <class 'NoneType'>"),
        ([START | {"headers": [field("content-length", "3")]}, BODY | {"body": {"bytes": "four"}}], "RuntimeError: response body is longer than its content-length 3"),
        ([START | {"headers": [field("content-length", "3")]}, BODY | {"body": {"bytes": "t"}}], "RuntimeError: response body has 1 bytes, fewer than its content-length 3"),
    ],
)  # fmt: skip
def test_a_message_of_wrong_type_or_order_is_a_clear_error(
    shared: Worker, messages: list[dict[str, Any]], error: str
) -> None:
    rest = [] if any(m.get("headers") for m in messages) else [START, BODY]
    _, errors = sends(shared, *messages, *rest)
    assert errors[0] == error
    shared.logs.clear()


def test_an_unknown_status_is_passed_on(shared: Worker) -> None:
    answer, errors = sends(shared, START | {"status": 799}, BODY)
    assert (answer.status, errors) == (799, [])


@pytest.mark.parametrize(
    ("method", "status", "headers", "length"),
    [
        ("HEAD", 200, [], 4),
        ("HEAD", 200, [field("content-length", "77")], 77),
        ("GET", 304, [field("content-length", "77")], 77),
        ("GET", 204, [], -1),
        ("GET", 204, [field("content-length", "0")], -1),
    ],
)
def test_head_204_and_304_carry_no_body_and_keep_what_length_may_stay(
    shared: Worker, method: str, status: int, headers: Any, length: int
) -> None:
    answer, errors = sends(
        shared,
        START | {"status": status, "headers": headers},
        BODY | {"body": {"bytes": "body"}},
        method=method,
    )
    assert (answer.status, answer.length, answer.body) == (status, length, b"")
    assert errors == []


def test_a_head_answer_without_body_or_length_claims_no_length(shared: Worker) -> None:
    answer, _ = sends(shared, START, BODY, method="HEAD")
    assert answer.length == -1
    answer, _ = sends(shared, START, BODY)
    assert answer.length == 0


def test_send_waits_for_a_client_that_does_not_read(loop_env: dict[str, str]) -> None:
    """Backpressure: no more than credit and one limit is buffered."""
    with Worker("asgi_apps:app", env=loop_env, credit=262144, automatic_credit=False) as worker:
        answer = worker.request("GET", "/flood")
        worker.until(lambda: len(answer.body) == 262144)
        assert worker.quiet(lambda: len(answer.body) > 262144, 0.1)
        passed = worker.seen("flood")
        assert isinstance(passed, int)
        assert passed <= 262144 + 2 * 65536
        worker.credit(answer, 1_000_000)
        worker.until(lambda: len(answer.body) == 1_262_144)
        worker.cancel(answer, GONE)
        worker.wait(answer)
        assert answer.abort == (3, "")
        assert worker.seen("flood-error") == "the client has disconnected"
        assert worker.errors() == []
        assert worker.stop() == 0


def test_an_endless_answer_to_head_does_not_hold_up_the_others(
    loop_env: dict[str, str],
) -> None:
    """Nothing of its body leaves, so no backpressure would ever make it yield."""
    with Worker("asgi_apps:app", env=loop_env) as worker:
        endless = worker.request("HEAD", "/flood")
        assert worker.get("/hello").body == b"hello"
        worker.cancel(endless, GONE)
        assert worker.wait(endless).abort == (3, "")
        assert worker.errors() == []


@pytest.mark.parametrize(
    ("why", "text"),
    [
        (DEADLINE, "the request's deadline has passed"),
        (STOPPING, "the server is stopping"),
    ],
)
def test_a_blocked_send_ends_with_an_oserror_that_says_why(why: int, text: str) -> None:
    with Worker("asgi_apps:app", automatic_credit=False) as worker:
        answer = worker.request("GET", "/flood")
        worker.until(lambda: len(answer.body) == 262144)
        worker.cancel(answer, why)
        worker.wait(answer)
        assert answer.abort == (3, "")
        assert worker.seen("flood-error") == text
        assert worker.errors() == []


def test_a_large_complete_answer_flows_as_credit_comes(shared: Worker) -> None:
    answer = shared.get("/big")
    assert answer.body == bytes(range(256)) * 40000
    assert answer.length == 256 * 40000
    assert answer.abort is None


def test_a_client_that_leaves_during_a_large_complete_answer_is_no_error(
    loop_env: dict[str, str],
) -> None:
    with Worker("asgi_apps:app", env=loop_env, automatic_credit=False) as worker:
        answer = worker.request("GET", "/big")
        worker.until(lambda: len(answer.body) == 262144)
        worker.cancel(answer, GONE)
        worker.credit(answer, 1 << 30)  # as the host does: it drops what comes
        worker.wait(answer)
        assert worker.seen("big") == "returned"
        assert worker.errors() == []


def test_early_hints_leave_before_the_head_and_later_ones_are_dropped(shared: Worker) -> None:
    """ASGI 9: after response.start, which is held."""
    answer = shared.get("/hints")
    assert answer.informational == [
        (103, [(b"link", b"</a.css>; rel=preload"), (b"link", b"</b.js>; rel=preload")]),
        (103, [(b"link", b"</c.js>; rel=preload")]),
    ]
    assert (answer.status, answer.body) == (200, b"x")


def test_early_hints_are_not_for_http_1_0(shared: Worker) -> None:
    answer = shared.get("/hints", version=10)
    assert (answer.informational, answer.body) == ([], b"x")


def test_trailers_end_the_answer_of_a_client_that_takes_them(shared: Worker) -> None:
    """ASGI 9."""
    answer = shared.get("/trailers", flags=TAKES_TRAILERS)
    assert answer.kinds == [COMMIT, RESPONSE_BODY, TRAILERS, DONE]
    assert answer.flags == [0, 0, END | BUSY, 0]
    assert answer.trailers == [(b"x-sum", b"1"), (b"x-more", b"2")]
    assert (answer.body, answer.fields) == (b"one two", [(b"trailer", b"x-sum, x-more")])


def test_trailers_are_left_out_for_a_client_that_does_not_take_them(shared: Worker) -> None:
    answer = shared.get("/trailers")
    assert answer.kinds == [COMMIT, RESPONSE_BODY, DONE]
    assert answer.flags[1] == END | BUSY
    assert answer.trailers is None


def test_the_body_ends_the_answer_while_unwanted_trailers_are_awaited(shared: Worker) -> None:
    answer = shared.request("GET", "/no-trailers", query=b"wait")
    shared.until(lambda: answer.ended)
    shared.signal("never")
    shared.wait(answer)
    assert answer.abort is None


def test_promised_trailers_that_never_come_are_a_protocol_error(shared: Worker) -> None:
    answer = shared.get("/no-trailers", flags=TAKES_TRAILERS)
    assert answer.abort is not None
    assert answer.abort[0] == 2
    shared.logs.clear()
