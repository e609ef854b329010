"""docs/traps.md, ASGI 1 to 4: the scope of a request."""

from __future__ import annotations

from typing import Any

import pytest
from asgi_host import Worker

pytest_plugins = ["asgi_fixtures"]

Json = dict[str, Any]


def scope_of(worker: Worker, path: str = "/scope", **options: Any) -> Json:
    answer = worker.get(path, **options)
    assert answer.status == 200, (answer, worker.errors())
    result = answer.json()
    assert isinstance(result, dict)
    return result


def test_a_scope_has_every_key_of_the_specification_with_its_exact_type(shared: Worker) -> None:
    """ASGI 2 and 3."""
    scope = scope_of(
        shared,
        query=b"a=%20b",
        headers=[(b"host", b"example:81"), (b"x-two", b"1"), (b"x-two", b"2"), (b"x-e", b"")],
        client=("192.0.2.7", 4321),
        server=("127.0.0.1", 8000),
    )
    extensions = scope.pop("extensions")
    headers = [
        [{"bytes": "host"}, {"bytes": "example:81"}],
        [{"bytes": "x-two"}, {"bytes": "1"}],
        [{"bytes": "x-two"}, {"bytes": "2"}],
        [{"bytes": "x-e"}, {"bytes": ""}],
    ]
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/scope",
        "raw_path": {"bytes": "/scope"},
        "query_string": {"bytes": "a=%20b"},
        "root_path": "",
        "headers": [{"tuple": pair} for pair in headers],
        "client": {"tuple": ["192.0.2.7", 4321]},
        "server": {"tuple": ["127.0.0.1", 8000]},
        "state": {},
    }
    assert extensions == {
        "http.response.pathsend": {},
        "http.response.zerocopysend": {},
        "http.response.early_hint": {},
        "http.response.trailers": {},
    }


def test_spec_version_is_2_5(shared: Worker) -> None:
    """ASGI 1: Starlette changes its code path at 2.4."""
    assert scope_of(shared)["asgi"] == {"version": "3.0", "spec_version": "2.5"}


@pytest.mark.parametrize(("version", "name"), [(10, "1.0"), (11, "1.1"), (20, "2")])
def test_http_version_is_one_of_the_three_names(shared: Worker, version: int, name: str) -> None:
    """ASGI 2."""
    assert scope_of(shared, version=version)["http_version"] == name


def test_the_server_of_a_unix_socket_is_its_path_and_none_and_the_client_is_none(
    shared: Worker,
) -> None:
    """ASGI 2."""
    scope = scope_of(shared, server=("/run/guado.sock", 0), client=("", 0))
    assert scope["server"] == {"tuple": ["/run/guado.sock", None]}
    assert scope["client"] is None
    again = scope_of(shared)
    assert again["server"] == {"tuple": ["127.0.0.1", 8000]}
    assert again["client"] == {"tuple": ["127.0.0.1", 50000]}


def test_a_client_behind_a_proxy_may_have_no_port(shared: Worker) -> None:
    assert scope_of(shared, client=("2001:db8::1", 0))["client"] == {"tuple": ["2001:db8::1", 0]}


@pytest.mark.parametrize(
    ("decoded", "text"),
    [
        ("/é/€//x".encode(), "/é/€//x"),
        (b"/a b%2F\x01", "/a b%2F\x01"),
        (b"/\xff\xc3\x28", "/\ufffd\ufffd("),  # invalid UTF-8: as urllib's unquote shows it
        ("/\U0001f600".encode(), "/\U0001f600"),
    ],
)
def test_path_is_text_and_raw_path_and_query_are_the_bytes_received(
    shared: Worker, decoded: bytes, text: str
) -> None:
    """ASGI 3."""
    scope = scope_of(
        shared,
        path=b"/scope" + decoded,
        raw_path=b"/scope/%C3%A9/%e2%82%ac//%2Fx",
        root=b"",
        query=b"q=%C3%A9&r=\xff",
    )
    assert scope["path"] == "/scope" + text
    assert scope["raw_path"] == {"bytes": "/scope/%C3%A9/%e2%82%ac//%2Fx"}
    assert scope["query_string"] == {"bytes": "q=%C3%A9&r=\xff"}


def test_path_includes_root_path(shared: Worker) -> None:
    """ASGI 3: uvicorn's change of 0.26, which frameworks rely on today."""
    scope = scope_of(shared, "/mounted/scope", root=b"/mounted")
    assert (scope["path"], scope["root_path"]) == ("/mounted/scope", "/mounted")
    assert scope_of(shared)["root_path"] == ""


def test_https_without_tls_of_ours_has_no_tls_extension(shared: Worker) -> None:
    """ASGI 9: a proxy ended TLS."""
    scope = scope_of(shared, scheme="https")
    assert scope["scheme"] == "https"
    assert "tls" not in scope["extensions"]
    assert scope_of(shared)["scheme"] == "http"


def test_the_tls_extension_has_its_six_keys(shared: Worker) -> None:
    """ASGI 9: tls 0.2."""
    assert scope_of(shared, scheme="https", tls=(0x0304, 0x1301))["extensions"]["tls"] == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1301,
    }


def test_what_one_request_does_to_its_scope_is_not_seen_by_the_next(shared: Worker) -> None:
    """ASGI 4: uvicorn's shared `asgi` dict."""
    first = scope_of(shared, "/dirty-scope")
    assert scope_of(shared, "/dirty-scope") == first
    assert scope_of(shared)["asgi"]["version"] == "3.0"
    assert scope_of(shared)["extensions"]["http.response.pathsend"] == {}


def test_header_names_that_share_a_place_in_the_cache_keep_their_bytes(shared: Worker) -> None:
    names = [b"x-%d" % i for i in range(600)] + [b"n" * 200]
    for _ in range(2):
        got = scope_of(shared, headers=[(name, name.upper()) for name in names])["headers"]
        expected = [[{"bytes": n.decode()}, {"bytes": n.decode().upper()}] for n in names]
        assert got == [{"tuple": pair} for pair in expected]


def test_the_method_is_upper_case(shared: Worker) -> None:
    """HTTP connection scope: method."""
    assert scope_of(shared, method="get")["method"] == "GET"
    assert scope_of(shared, method="PROPFIND")["method"] == "PROPFIND"
