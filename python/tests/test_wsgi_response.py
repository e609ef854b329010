"""WSGI lines 1 to 4, 6, 14 and 15: start_response, write() and what leaves when."""

from __future__ import annotations

import pytest
from wsgi_fixtures import worker
from wsgi_host import WsgiWorker, raised

__all__ = ["worker"]

END, BUSY = 1, 4
COMMIT, RESPONSE_BODY = 0x42, 0x45


def test_a_small_answer_is_one_frame(worker: WsgiWorker) -> None:
    answer = worker.get("/hello")
    assert (answer.status, answer.length, answer.body) == (200, 5, b"hello")
    assert answer.kinds == [COMMIT]
    assert answer.flags == [END]
    assert answer.fields == [(b"Content-Type", b"text/plain")]


@pytest.mark.parametrize(("path", "status"), [("/lazy_start", 201), ("/lazy_iterator", 202)])
def test_line_01_start_response_may_be_called_in_the_first_iteration(
    worker: WsgiWorker, path: str, status: int
) -> None:
    assert worker.get(path).status == status


@pytest.mark.parametrize("path", ["/never_start", "/never_start_lazily"])
def test_line_01_bytes_before_start_response_are_the_applications_error(
    worker: WsgiWorker, path: str
) -> None:
    answer = worker.get(path)
    assert answer.status == 0
    assert answer.abort is not None
    assert answer.abort[0] == 2
    assert "start_response" in answer.abort[1]


def test_line_02_empty_chunks_do_not_send_the_head(worker: WsgiWorker) -> None:
    answer = worker.call("/empty_first")
    assert worker.quiet(lambda: answer.kinds)
    worker.open("empty_first")
    worker.wait(answer)
    assert (answer.status, answer.body) == (404, b"gone")
    assert answer.header(b"X-Second") == [b"yes"]


def test_line_02_an_empty_write_does_not_send_the_head(worker: WsgiWorker) -> None:
    answer = worker.call("/write_nothing")
    assert worker.quiet(lambda: answer.kinds)
    worker.open("write_nothing")
    assert worker.wait(answer).body == b"only"
    assert answer.length == 4


def test_line_02_the_head_of_an_empty_body_leaves_at_exhaustion(worker: WsgiWorker) -> None:
    answer = worker.get("/nothing")
    assert (answer.status, answer.length, answer.body) == (200, 0, b"")


def test_line_03_what_was_written_comes_before_the_iterables_chunks(worker: WsgiWorker) -> None:
    answer = worker.get("/write_first")
    assert answer.body == b"one two three four"
    assert answer.chunks[:2] == [b"one ", b"two "]


def test_line_03_write_takes_bytes_only(worker: WsgiWorker) -> None:
    answer = worker.get("/write_str")
    assert raised(answer)
    assert "write() takes bytes, not <class 'str'>" in worker.errors()[-1]


def test_line_04_exc_info_replaces_a_head_that_has_not_left(worker: WsgiWorker) -> None:
    answer = worker.get("/exc_info_before")
    assert (answer.status, answer.body) == (500, b"replaced")
    assert answer.fields == [(b"X-Second", b"2")]


def test_line_04_exc_info_is_raised_again_once_the_head_has_left(worker: WsgiWorker) -> None:
    worker.journal()
    answer = worker.get("/exc_info_after")
    assert (answer.status, answer.body) == (200, b"begun")
    assert not answer.ended
    assert raised(answer)
    assert worker.journal() == [["raised again", ["exc_info_after", "exc_info_after"]]]
    assert "Mark: late" in worker.errors()[-1]


def test_line_04_a_second_call_without_exc_info_is_fatal(worker: WsgiWorker) -> None:
    answer = worker.get("/start_twice")
    assert answer.status == 0
    assert raised(answer)
    assert "AssertionError" in worker.errors()[-1]


def test_line_04_no_reference_to_the_exception_is_kept(worker: WsgiWorker) -> None:
    assert worker.get("/exc_info_dropped").body == b"dropped"


def test_line_06_one_chunk_gives_the_length(worker: WsgiWorker) -> None:
    assert worker.get("/one").length == 5
    assert worker.get("/buffers").body == b"one two three"
    answer = worker.get("/one_long")
    assert (answer.length, answer.flags, answer.done) == (5, [END | BUSY, 0], True)


def test_line_06_a_list_has_the_length_of_its_chunks(worker: WsgiWorker) -> None:
    answer = worker.get("/several")
    assert (answer.length, answer.body, answer.kinds) == (5, b"12345", [COMMIT])
    answer = worker.get("/large")
    assert answer.length == 400_000
    assert answer.body == b"x" * 100_000 + b"y" * 300_000


def test_line_06_the_length_is_not_guessed_for_iterators_or_after_write(
    worker: WsgiWorker,
) -> None:
    assert worker.get("/streamed").length == -1
    assert worker.get("/write_then_one").length == -1


@pytest.mark.parametrize("path", ["/one", "/several", "/streamed"])
def test_line_06_no_more_bytes_than_content_length_are_sent(worker: WsgiWorker, path: str) -> None:
    worker.logs.clear()
    answer = worker.get(path, query=b"4")
    assert (answer.length, answer.body, answer.abort) == (4, b"1234", None)
    assert "more bytes than its Content-Length of 4" in worker.logs[-1][2]


@pytest.mark.parametrize("path", ["/one", "/several", "/streamed", "/nothing"])
def test_line_06_fewer_bytes_than_content_length_cut_the_connection(
    worker: WsgiWorker, path: str
) -> None:
    answer = worker.get(path, query=b"10")
    assert (answer.length, answer.ended) == (10, False)
    assert answer.abort is not None
    assert answer.abort[0] == 2
    assert "of the 10 that its Content-Length declares" in answer.abort[1]


@pytest.mark.parametrize("path", ["/one", "/several", "/streamed", "/large", "/hello"])
def test_line_06_head_has_the_fields_of_get_and_no_body(worker: WsgiWorker, path: str) -> None:
    got, head = worker.get(path), worker.get(path, method="HEAD")
    assert head.body == b""
    assert head.ended
    assert (head.status, head.length, head.fields) == (got.status, got.length, got.fields)


def test_line_06_an_empty_body_under_head_says_nothing_of_gets_length(worker: WsgiWorker) -> None:
    assert worker.get("/nothing", method="HEAD").length == -1
    assert worker.get("/nothing", method="HEAD", query=b"77").length == 77


def test_line_06_204_has_neither_body_nor_content_length(worker: WsgiWorker) -> None:
    for query in (b"", b"5"):
        answer = worker.get("/no_content", query=query)
        assert (answer.status, answer.length, answer.body, answer.ended) == (204, -1, b"", True)


def test_line_06_304_keeps_its_content_length_and_has_no_body(worker: WsgiWorker) -> None:
    answer = worker.get("/not_modified", query=b"5")
    assert (answer.status, answer.length, answer.body) == (304, 5, b"")
    assert worker.get("/not_modified").length == -1


def test_line_14_each_chunk_leaves_before_the_next_is_made(worker: WsgiWorker) -> None:
    answer = worker.call("/gated")
    worker.until(lambda: answer.body == b"one")
    worker.open("gated one")
    worker.until(lambda: answer.body == b"onetwo")
    assert not answer.ended
    worker.open("gated two")
    assert worker.wait(answer).chunks == [b"one", b"two"]


def test_line_14_a_client_that_does_not_read_stops_the_application_alone(
    worker: WsgiWorker,
) -> None:
    with WsgiWorker(threads=2, credit=32768, automatic_credit=False) as slow:
        answer = slow.call("/flood")
        slow.until(lambda: len(answer.body) == 32768)
        noted = slow.journal()
        assert slow.quiet(lambda: len(answer.body) > 32768)
        assert noted[-1] <= 4
        assert slow.journal() == []
        while not answer.over:
            have = len(answer.body)
            slow.credit(answer, 40000)
            slow.until(lambda have=have: len(answer.body) > have or answer.over)
        assert answer.body == b"".join(bytes([i]) * 16384 for i in range(64))


@pytest.fixture(scope="module")
def refused(worker: WsgiWorker) -> dict[str, str]:
    return dict(worker.json("/start_caught"))


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("status bytes", "TypeError: status must be a str"),
        ("status int", "TypeError: status must be a str"),
        ("status words", "ValueError: status 'OK' is not of the form"),
        ("status crlf", "ValueError: status"),
        ("status nul", "ValueError: status"),
        ("status informational", "ValueError: status '103 Early Hints' is informational"),
        ("status unicode", "ValueError: status '200 \u2713' has characters outside latin-1"),
        ("headers none", "TypeError: response headers must be a list"),
        ("headers dict", "TypeError: response headers must be a list"),
        ("headers str", "TypeError: response headers must be a list"),
        ("item str", "TypeError: response headers must be (name, value) tuples"),
        ("item triple", "TypeError: response headers must be (name, value) tuples"),
        ("name bytes", "TypeError: response header b'a'"),
        ("value bytes", "TypeError: response header 'a': b'b' must be two str"),
        ("value int", "TypeError: response header 'Content-Length': 3 must be two str"),
        ("value none", "TypeError: response header 'X-A': None"),
        ("name empty", "ValueError: response header name ''"),
        ("name space", "ValueError: response header name 'a b'"),
        ("name colon", "ValueError: response header name 'a:'"),
        ("name newline", "ValueError: response header name 'a\\n'"),
        ("name unicode", "ValueError: response header name '\u00e9'"),
        ("value newline", "ValueError: response header 'a': value 'b\\nSet-Cookie: x=y'"),
        ("value return", "ValueError: response header 'a'"),
        ("value nul", "ValueError: response header 'a'"),
        ("value delete", "ValueError: response header 'a'"),
        ("value unicode", "ValueError: response header value '\u20ac' has characters outside"),
        ("value surrogate", "ValueError: response header value"),
        ("length words", "ValueError: Content-Length 'many'"),
        ("length negative", "ValueError: Content-Length '-1'"),
        ("length plus", "ValueError: Content-Length '+1'"),
        ("length empty", "ValueError: Content-Length ''"),
        ("length huge", "ValueError: Content-Length '999"),
        ("length twice", "ValueError: two different Content-Length headers: 1 and 2"),
        ("too few", "TypeError: start_response() needs"),
        ("exc_info str", "TypeError: exc_info must be"),
        ("exc_info empty", "TypeError: exc_info must be"),
    ],
)
def test_line_15_a_bad_head_is_refused_where_it_is_made(
    refused: dict[str, str], case: str, error: str
) -> None:
    assert refused[case].startswith(error)


def test_line_15_hop_by_hop_headers_are_fatal(refused: dict[str, str]) -> None:
    hops = {k: v for k, v in refused.items() if k.startswith("hop ")}
    assert len(hops) == 10
    for error in hops.values():
        assert "hop-by-hop" in error


def test_line_15_an_uncaught_bad_head_is_logged_and_answered_by_the_host(
    worker: WsgiWorker,
) -> None:
    answer = worker.get("/bad_body", query=b"none")
    assert answer.status == 0
    assert answer.abort == (2, "the application returned NoneType, not an iterable of bytes")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (b"str", "the application returned str, not an iterable of bytes"),
        (b"bytes", "the application returned bytes, not an iterable of bytes"),
        (b"int", "the application returned int, not an iterable of bytes"),
        (b"str+items", "the application's iterable gave str, not bytes"),
        (b"str+generator", "the application's iterable gave str, not bytes"),
    ],
)
def test_line_15_bodies_are_bytes(worker: WsgiWorker, query: bytes, complaint: str) -> None:
    assert worker.get("/bad_body", query=query).abort == (2, complaint)


def test_line_15_heads_keep_their_bytes_and_set_cookie_is_never_merged(
    worker: WsgiWorker,
) -> None:
    answer = worker.get("/good_heads")
    assert answer.status == 299
    assert answer.fields == [
        (b"Set-Cookie", b"a=1"),
        (b"X-Latin", b"caf\xe9"),
        (b"Set-Cookie", b"b=2; Path=/"),
        (b"X-Padded", b"in\tside"),
        (b"X-List", b"ok"),
        (b"X-Empty", b""),
    ]
    assert worker.reasons[answer.stream] == b"R\xe9ason with  spaces "


def test_line_15_arguments_may_be_named_and_the_reason_left_out(worker: WsgiWorker) -> None:
    answer = worker.get("/head_tuple")
    assert (answer.status, answer.fields) == (200, [(b"X-A", b"b")])


def test_a_head_larger_than_a_frame_arrives_whole(worker: WsgiWorker) -> None:
    for _ in range(2):
        answer = worker.get("/large_head")
        assert answer.body == b"after a large head"
        assert [v for _, v in answer.fields] == [str(i).encode() * 200 for i in range(500)]
