"""What a worker tells its host when it cannot boot, and what the application finds."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import link_host as h
import pytest
from link_host import Host

GOOD = """
    def application(environ, start_response):
        start_response("200 OK", [])
        return [b"good"]
"""


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Writes modules into a folder and starts a worker there."""
    hosts: list[Host] = []

    def begin(target: str | dict[str, object], *more: str, **modules: str) -> Host:
        for name, text in modules.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        hosts.append(Host(target, *more, directory=tmp_path))
        return hosts[-1]

    yield begin
    for host in hosts:
        host.close()


def failed(host: Host) -> dict[str, str]:
    message = host.message(h.FAILED)
    assert host.process.wait(h.TIMEOUT) == 3
    assert host.errors() == "", "the host tells the user, the worker is silent"
    return {key: str(value) for key, value in message.items()}


def test_the_default_attributes_are_tried_in_order(boot: Callable[..., Host]) -> None:
    host = boot("shop", shop=GOOD + "\n    app = None\n")
    host.ready()
    assert host.get().body == b"good"


def test_a_dotted_attribute_is_followed(boot: Callable[..., Host]) -> None:
    host = boot(
        "shop.wsgi:holder.application", **{"shop/__init__": "", "shop/wsgi": f"class holder:{GOOD}"}
    )
    host.ready()
    assert host.get().body == b"good"


def test_a_factory_is_called(boot: Callable[..., Host]) -> None:
    host = boot(
        {"target": "shop:make", "factory": True},
        shop="""
        def make():
            def application(environ, start_response):
                start_response("200 OK", [])
                return [b"made"]
            return application
        """,
    )
    host.ready()
    assert host.get().body == b"made"


def test_a_missing_module_names_the_folder_that_was_searched(
    boot: Callable[..., Host], tmp_path: Path
) -> None:
    message = failed(boot("nowhere:app"))
    assert message["stage"] == "import"
    assert message["app"] == "app0"
    assert "'nowhere'" in message["message"]
    assert f"sys.path[0] is {tmp_path}" in message["hint"]
    assert "--dir" in message["hint"]


def test_a_misspelt_module_names_the_nearest(boot: Callable[..., Host]) -> None:
    assert "did you mean storefront?" in failed(boot("storefrnt:app", storefront=GOOD))["hint"]


def test_a_missing_submodule_names_the_nearest(boot: Callable[..., Host]) -> None:
    host = boot("shop.wsgy:app", **{"shop/__init__": "", "shop/wsgi": GOOD})
    assert "did you mean shop.wsgi?" in failed(host)["hint"]


@pytest.mark.parametrize(
    ("target", "meant"),
    [("shop.application", "shop:application"), ("shop.aplication", "shop:application")],
)
def test_a_dot_where_a_colon_belongs_is_pointed_out(
    boot: Callable[..., Host], target: str, meant: str
) -> None:
    assert f"did you mean {meant}?" in failed(boot(target, shop=GOOD))["hint"]


@pytest.mark.parametrize(
    ("app", "option", "key"),
    [
        ({"target": "nowhere:app"}, "is --dir right?", "is dir right?"),
        ({"target": "shop:make()"}, "with --factory", "with factory = true"),
        ({"target": "needs:app"}, "with --python", "interpreter with python"),
        ({"target": "shop:none"}, "add --factory", "add factory = true"),
        ({"target": "shop:application", "kind": "asgi"}, "--kind wsgi", 'kind = "wsgi"'),
    ],
)
def test_a_hint_names_options_on_the_command_line_and_keys_for_a_file(
    boot: Callable[..., Host], app: dict[str, object], option: str, key: str
) -> None:
    for file, words in ((False, option), (True, key)):
        host = boot(
            {**app, "file": file},
            shop=GOOD + "\n    def none():\n        pass\n",
            needs="import no_such_package\n",
        )
        hint = failed(host)["hint"]
        assert words in hint
        assert ("--" in hint) is not file


def test_a_missing_dependency_is_not_a_missing_application(boot: Callable[..., Host]) -> None:
    message = failed(boot("shop:app", shop="import helper\n", helper="import no_such_package\n"))
    assert "no_such_package" in message["message"]
    assert "install it there" in message["hint"]
    assert "shop.py" in message["traceback"]
    assert "helper.py" in message["traceback"]


def test_a_traceback_holds_the_user_s_frames_alone(boot: Callable[..., Host]) -> None:
    message = failed(boot("shop:app", shop="def fail():\n    return 1 / 0\n\nfail()\n"))
    assert message["message"] == "ZeroDivisionError: division by zero"
    lines = message["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    files = [line for line in lines if line.startswith("  File ")]
    assert len(files) == 2
    assert all("shop.py" in line for line in files)
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_causes_are_shortened_as_well(boot: Callable[..., Host]) -> None:
    text = """
        import importlib
        try:
            importlib.import_module("broken")
        except Exception as error:
            raise RuntimeError("settings") from error
    """
    message = failed(boot("shop:app", shop=text, broken="undefined_name\n"))
    assert "broken.py" in message["traceback"]
    assert "direct cause" in message["traceback"]
    assert "importlib" not in message["traceback"].replace("importlib.import_module(", "")


def test_a_syntax_error_shows_its_line(boot: Callable[..., Host]) -> None:
    message = failed(boot("shop:app", shop="def broken(:\n    pass\n"))
    assert "SyntaxError" in message["message"]
    assert message["message"].endswith("shop.py, line 1)")
    assert "def broken(:" in message["traceback"]


def test_a_wrong_attribute_names_the_nearest(boot: Callable[..., Host]) -> None:
    message = failed(boot("shop:aplication", shop=GOOD))
    assert "has no attribute 'aplication'" in message["message"]
    assert "did you mean application?" in message["hint"]


def test_a_factory_that_nobody_named_is_pointed_out(boot: Callable[..., Host]) -> None:
    message = failed(boot("shop", shop="def create_app():\n    pass\n"))
    assert "shop:create_app with --factory" in message["hint"]


def test_a_module_without_an_application_says_so(boot: Callable[..., Host]) -> None:
    assert "neither 'application' nor 'app'" in failed(boot("shop", shop="x = 1\n"))["message"]


def test_a_factory_s_failure_is_told_as_such(boot: Callable[..., Host]) -> None:
    host = boot(
        {"target": "shop:make", "factory": True}, shop="def make():\n    raise KeyError('x')\n"
    )
    message = failed(host)
    assert message["stage"] == "factory"
    assert "KeyError" in message["traceback"]


def test_an_application_named_as_a_factory_is_told(boot: Callable[..., Host]) -> None:
    host = boot({"target": "shop:application", "factory": True}, shop=GOOD)
    message = failed(host)
    assert message["stage"] == "factory"
    assert "leave --factory away" in message["hint"]


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("shop.py", "shop"),
        ("shop/wsgi.py:app", "shop.wsgi:app"),
        ("shop:create_app()", "shop:create_app with --factory"),
        ("shop:", "MODULE:ATTRIBUTE"),
        (":app", "MODULE:ATTRIBUTE"),
    ],
)
def test_what_other_servers_users_write_is_answered(
    boot: Callable[..., Host], target: str, hint: str
) -> None:
    message = failed(boot(target, shop=GOOD))
    assert "is not a target" in message["message"]
    assert hint in message["hint"]


def test_an_import_that_exits_is_told(boot: Callable[..., Host]) -> None:
    message = failed(boot("shop:app", shop="import sys\nsys.exit(7)\n"))
    assert "sys.exit(7)" in message["message"]


def test_an_object_that_is_no_application_is_told(boot: Callable[..., Host]) -> None:
    message = failed(boot("shop:app", shop="app = {}\n"))
    assert message["stage"] == "kind"
    assert "type dict" in message["message"]


def test_an_endless_recursion_fits_into_the_message(boot: Callable[..., Host]) -> None:
    text = """
        import sys
        sys.setrecursionlimit(5000)
        def one(n): return two(n) + 1
        def two(n): return one(n) + 1
        one(1)
    """
    message = failed(boot("shop:app", shop=text))
    assert "RecursionError" in message["message"]
    assert message["traceback"].splitlines()[-1].startswith("RecursionError")


def test_replaced_threading_is_refused(boot: Callable[..., Host]) -> None:
    # gevent itself need not be installed: what counts is what its module answers.
    host = boot(
        "shop:application",
        shop="import gevent.monkey\n" + textwrap.dedent(GOOD),
        **{
            "gevent/__init__": "",
            "gevent/monkey": "def is_module_patched(name):\n    return name == 'threading'\n",
        },
    )
    message = failed(host)
    assert message["stage"] == "environment"
    assert "gevent" in message["message"]
    assert "monkey patching" in message["hint"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with Host("shop:app", hello={"dir": str(tmp_path / "gone")}) as host:
        assert "cannot be entered" in failed(host)["message"]


def test_the_application_finds_the_process_it_expects() -> None:
    with Host("link_apps:app") as host:
        host.ready()
        state = json.loads(host.get(b"/process_state").body)
    assert state["cwd"] == str(host.directory)
    assert state["path"][0] == str(host.directory)
    assert str(h.ROOT) not in state["path"]
    assert "" not in state["path"]
    assert state["guado"] == []
    assert state["argv"] == ["guado"]
    assert state["context"] == "set at import"
    assert state["main"] is None


def test_safe_path_does_not_take_the_application_s_folder_away() -> None:
    with Host("link_apps:app", env={"PYTHONSAFEPATH": "1"}) as host:
        host.ready()
        assert json.loads(host.get(b"/process_state").body)["path"][0] == str(host.directory)


def test_a_drain_during_the_import_ends_the_worker(
    boot: Callable[..., Host], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    host = boot("shop:application", shop=f"open({str(gate)!r}).read()\n" + textwrap.dedent(GOOD))
    writer = os.open(gate, os.O_WRONLY)
    host.send(h.DRAIN, arg=1000)
    host.send(h.PING, arg=1)
    host.until(lambda: any(f.kind == h.PONG for f in host.other))
    os.close(writer)
    assert host.process.wait(h.TIMEOUT) == 0


@pytest.mark.parametrize("transport", ["shm", "socket"])
@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ("sys.version_info = (3, 10, 2)", "too old"),
        ("import sysconfig; sysconfig.get_config_var = lambda name: 1", "free-threaded"),
        ("sys.implementation.name = 'pypy'", "pypy"),
    ],
)
def test_an_interpreter_that_does_not_fit_is_refused_in_words(
    transport: str, patch: str, words: str
) -> None:
    from guado._bootstrap import LINE

    argv = [sys.executable, "-c", f"import sys; {patch}; exec({LINE!r})"]
    with Host("shop:app", transport=transport, argv=argv) as host:
        message = host.message(h.FAILED)
        assert host.process.wait(h.TIMEOUT) == 3
    assert message["stage"] == "environment"
    assert words in str(message["message"])
    assert message["hint"]


def test_a_core_that_does_not_load_is_told_to_the_host(tmp_path: Path) -> None:
    """As on another libc: the package is there, its extension is not."""
    shutil.copytree(h.ROOT / "guado", tmp_path / "guado")
    (tmp_path / "guado" / "_core.abi3.so").unlink()
    with Host("shop:app", env={"GUADO_PACKAGE": str(tmp_path)}) as host:
        message = host.message(h.FAILED)
    assert message["stage"] == "environment"
    assert "_core" in str(message["message"])


def test_a_core_of_other_sources_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """As in a development tree whose extension was not built again."""
    shutil.copytree(h.ROOT / "guado", tmp_path / "guado")
    with (tmp_path / "guado" / "csrc" / "link.c").open("a") as source:
        source.write("/* newer than the extension */\n")
    with Host("shop:app", env={"GUADO_PACKAGE": str(tmp_path)}) as host:
        message = host.message(h.FAILED)
        assert host.process.wait(h.TIMEOUT) == 3
    assert message["stage"] == "environment"
    assert "built of other sources" in str(message["message"])
    assert "make ext" in str(message["hint"])
