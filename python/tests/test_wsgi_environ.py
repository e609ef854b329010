"""WSGI lines 7 to 10: environ."""

from __future__ import annotations

from typing import Any

import pytest
from wsgi_fixtures import worker
from wsgi_host import WsgiWorker

__all__ = ["worker"]


def environ(worker: WsgiWorker, path: str | bytes = "/dump", **options: Any) -> dict[str, Any]:
    answer = worker.wait(worker.call(path, **options))  # type: ignore[arg-type]
    assert answer.status == 200, (answer, worker.logs)
    return dict(answer.json()["environ"])  # type: ignore[index, call-overload]


def test_line_07_environ_is_a_builtin_dict_of_str(worker: WsgiWorker) -> None:
    shown = worker.json("/dump")
    assert (shown["type"], shown["keys"]) == ("dict", ["str"])


def test_line_07_paths_are_decoded_bytes_as_latin_1(worker: WsgiWorker) -> None:
    e = environ(worker, "/caf\u00e9/\u20ac".encode(), raw_path=b"/caf%C3%A9/%E2%82%AC")
    assert e["PATH_INFO"] == "/caf\u00e9/\u20ac".encode().decode("latin-1")
    assert e["PATH_INFO"].encode("latin-1").decode() == "/caf\u00e9/\u20ac"


def test_line_07_the_query_stays_undecoded(worker: WsgiWorker) -> None:
    assert environ(worker, query=b"a=%20b+c&%C3%A9=1")["QUERY_STRING"] == "a=%20b+c&%C3%A9=1"
    assert environ(worker)["QUERY_STRING"] == ""


def test_line_07_header_bytes_beyond_ascii_arrive_as_latin_1(worker: WsgiWorker) -> None:
    value = bytes(range(0x80, 0x100))
    for _ in range(2):
        e = environ(worker, headers=[(b"HTTP_X_RAW", value), (b"HTTP_X_UTF", b"\xc3\xa9")])
        assert e["HTTP_X_RAW"].encode("latin-1") == value
        assert e["HTTP_X_UTF"] == "\u00c3\u00a9"


def test_line_08_script_name_is_the_mount_and_path_info_the_rest(worker: WsgiWorker) -> None:
    e = environ(worker, "/shop/cart", root=b"/shop")
    assert (e["SCRIPT_NAME"], e["PATH_INFO"]) == ("/shop", "/cart")
    e = environ(worker, "/shop", root=b"/shop")
    assert (e["SCRIPT_NAME"], e["PATH_INFO"]) == ("/shop", "")
    e = environ(worker, "/cart")
    assert (e["SCRIPT_NAME"], e["PATH_INFO"]) == ("", "/cart")


def test_line_08_double_and_encoded_slashes_survive(worker: WsgiWorker) -> None:
    e = environ(worker, "//a//b/c", raw_path=b"//a//b%2Fc", query=b"x=%2F")
    assert e["PATH_INFO"] == "//a//b/c"
    assert e["REQUEST_URI"] == e["RAW_URI"] == "//a//b%2Fc?x=%2F"


def test_line_09_content_headers_have_no_http_prefix(worker: WsgiWorker) -> None:
    fields = [(b"CONTENT_TYPE", b"text/x"), (b"CONTENT_LENGTH", b"3")]
    e = environ(worker, method="POST", headers=fields, body=b"abc")
    assert (e["CONTENT_TYPE"], e["CONTENT_LENGTH"]) == ("text/x", "3")
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(e)
    e = environ(worker)
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"} & set(e)


def test_line_09_a_counted_body_has_a_content_length(worker: WsgiWorker) -> None:
    assert environ(worker, method="POST", body=b"abc")["CONTENT_LENGTH"] == "3"


def test_line_09_server_and_client_are_strings_and_follow_the_connection(
    worker: WsgiWorker,
) -> None:
    e = environ(worker, server=("example.org", 8443), client=("192.0.2.1", 1234))
    assert (e["SERVER_NAME"], e["SERVER_PORT"]) == ("example.org", "8443")
    assert (e["REMOTE_ADDR"], e["REMOTE_PORT"]) == ("192.0.2.1", "1234")
    e = environ(worker, server=("::1", 80), client=("2001:db8::1", 65535))
    assert (e["SERVER_NAME"], e["SERVER_PORT"]) == ("::1", "80")
    assert (e["REMOTE_ADDR"], e["REMOTE_PORT"]) == ("2001:db8::1", "65535")
    long_name = "x" * 300
    for _ in range(2):
        assert environ(worker, server=(long_name, 1))["SERVER_NAME"] == long_name
    assert environ(worker, server=("a", 1))["SERVER_NAME"] == "a"


def test_line_09_on_a_unix_socket_the_port_is_the_schemes(worker: WsgiWorker) -> None:
    e = environ(worker, server=("localhost", 0), client=("", 0))
    assert (e["SERVER_NAME"], e["SERVER_PORT"]) == ("localhost", "80")
    assert e["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in e
    e = environ(worker, server=("localhost", 0), client=("", 0), scheme="https")
    assert e["SERVER_PORT"] == "443"
    assert environ(worker)["REMOTE_PORT"] == "50000"


@pytest.mark.parametrize(
    ("version", "protocol"), [(10, "HTTP/1.0"), (11, "HTTP/1.1"), (20, "HTTP/2.0")]
)
def test_line_09_the_protocol_is_written_out(
    worker: WsgiWorker, version: int, protocol: str
) -> None:
    assert environ(worker, version=version)["SERVER_PROTOCOL"] == protocol


def test_line_09_https_is_on_under_tls_only(worker: WsgiWorker) -> None:
    for _ in range(9):  # every thread sees both
        e = environ(worker, scheme="https", tls=(0x0304, 0x1301))
        assert (e["wsgi.url_scheme"], e["HTTPS"]) == ("https", "on")
        e = environ(worker)
        assert e["wsgi.url_scheme"] == "http"
        assert "HTTPS" not in e


def test_line_09_without_a_host_header_there_is_no_http_host(worker: WsgiWorker) -> None:
    assert "HTTP_HOST" not in environ(worker, headers=[], version=10)
    assert environ(worker)["HTTP_HOST"] == "example"


def test_line_10_joined_fields_arrive_as_they_are(worker: WsgiWorker) -> None:
    fields = [(b"HTTP_COOKIE", b"a=1; b=2"), (b"HTTP_ACCEPT", b"x,y"), (b"HTTP_X_EMPTY", b"")]
    e = environ(worker, headers=fields)
    assert (e["HTTP_COOKIE"], e["HTTP_ACCEPT"], e["HTTP_X_EMPTY"]) == ("a=1; b=2", "x,y", "")


def test_no_header_of_one_request_is_seen_by_the_next(worker: WsgiWorker) -> None:
    for i in range(12):
        fields = [(b"HTTP_X_%d" % i, b"%d" % i), (b"HTTP_X_SAME", b"%d" % i)]
        e = environ(worker, method=f"M{i}", query=b"%d" % i, headers=fields)
        assert {k: v for k, v in e.items() if k.startswith("HTTP_")} == {
            f"HTTP_X_{i}": str(i),
            "HTTP_X_SAME": str(i),
        }
        assert (e["REQUEST_METHOD"], e["QUERY_STRING"]) == (f"M{i}", str(i))


def test_any_number_of_header_names_passes(worker: WsgiWorker) -> None:
    for turn in range(8):
        fields = [(b"HTTP_N%d_%d" % (turn, i), b"%d" % i) for i in range(150)]
        fields.append((b"HTTP_" + b"L" * 300, b"v" * 5000))
        e = environ(worker, headers=fields)
        assert {k: v for k, v in e.items() if k.startswith("HTTP_")} == {
            k.decode(): v.decode() for k, v in fields
        }


def test_what_the_application_changes_in_environ_is_its_own(worker: WsgiWorker) -> None:
    for _ in range(4):
        assert worker.get("/cycle").body == b"cycle"
    e = environ(worker)
    assert not {"self", "start"} & set(e)


def test_applications_of_one_worker_are_told_apart(worker: WsgiWorker) -> None:
    assert worker.json("/", app=1) == "second"
    assert worker.json("/dump", app=0)["type"] == "dict"


@pytest.mark.parametrize("path", ["/hello", "/streamed", "/closing", "/one", "/lazy_iterator"])
def test_the_reference_validator_finds_nothing(worker: WsgiWorker, path: str) -> None:
    answer = worker.get(path, app=2)
    assert (answer.abort, worker.errors()) == (None, [])
    assert answer.status in (200, 202)
