"""Part two of bench/state.py: one operation in a worker beside Redis and Pyro4, the page
workload beside gunicorn, and what the mirror costs a request.

The page workload is 56 operations per request on a page of ten values: 40 reads, 10 writes,
3 locks and 3 unlocks, by 16 connections, each request of another page than the last. The same
application (bench/apps/bench_pages.py) has its pages in Guado's stores, in a Pyro4 daemon over
a Unix socket, and in a dict of the process. Every server has one worker with 8 threads. A round
visits each server once; figures are medians over rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import run
from figures import figure

CONNECTIONS, PAGES, THREADS = 16, 64, 8
DURABLE = 'guado, durability = "host"'

GUADO = """
[server]
listen = ["127.0.0.1:{port}"]
log_level = "{log_level}"
phase = {phase}
state_dir = "{folder}/state"
{server}
[state]
{state}
[[app]]
name = "bench"
kind = "wsgi"
target = "bench_pages:app"
dir = "{apps}"
python = "{python}"
threads = {threads}
[[mount]]
app = "bench"
"""


@dataclass(frozen=True)
class Beside:
    """What the applications find beside them."""

    folder: Path
    redis: str = ""
    pyro: str = ""

    def environment(self, store: str) -> dict[str, str]:
        more = {"BENCH_STORE": store, "BENCH_REDIS": self.redis, "BENCH_PYRO": self.pyro}
        return {**os.environ, "PYTHONPATH": str(run.APPS), **more}


@contextlib.contextmanager
def process(command: list[str], ready: Path, **more: Any) -> Iterator[str]:
    """A server on a Unix socket, until the end of the block."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, **more) as it:
        try:
            deadline = time.monotonic() + 30
            while not ready.exists():
                if it.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start")
                time.sleep(0.05)
            yield str(ready)
        finally:
            it.terminate()


@contextlib.contextmanager
def beside() -> Iterator[Beside]:
    """Starts Redis, where there is one, and the Pyro4 daemon."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = ""
        if server := shutil.which("redis-server"):
            path = folder / "redis.sock"
            command = [server, "--port", "0", "--unixsocket", str(path), "--save", ""]
            redis = stack.enter_context(process([*command, "--appendonly", "no"], path))
        else:
            print("Redis is left out: there is no redis-server (apt install redis-server)")
        path = folder / "pyro.sock"
        command = [str(run.BIN / "python"), str(run.APPS / "bench_daemon.py"), str(path)]
        pyro = stack.enter_context(process(command, path))
        yield Beside(folder, redis, pyro)


class Server(run.Server):
    """One running server, and the pages that were opened in it."""

    def __init__(self, name: str, around: Beside, kind: str, **settings: Any) -> None:
        self.name, self.port, self.kind = name, run.free_port(), kind
        self.pages: list[tuple[str, str]] = []  # the id, and the cookie of its connection
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            self.command(around, settings),
            cwd=run.APPS,
            env=around.environment(kind),
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.wait()

    def command(self, around: Beside, settings: dict[str, Any]) -> list[str]:
        if self.kind != "guado":
            gunicorn = [str(run.BIN / "gunicorn"), "-w", "1", "-b", f"127.0.0.1:{self.port}"]
            gunicorn += ["--log-level", "error", "--keep-alive", "60"]
            return [*gunicorn, "-k", "gthread", "--threads", str(THREADS), "bench_pages:app"]
        folder = around.folder / f"guado-{self.port}"
        folder.mkdir()
        values = {"phase": 4, "log_level": "warn", "server": "", "state": "", **settings}
        text = GUADO.format(
            port=self.port,
            folder=folder,
            apps=run.APPS,
            python=run.BIN / "python",
            threads=THREADS,
            **values,
        )
        path = folder / "guado.toml"
        path.write_text(text)
        return [str(run.ROOT / "bin/guado"), "serve", "--config", str(path)]

    def ask(self, load: run.Load) -> bytes:
        return self.get("/")

    def get(self, path: str, cookie: str = "", data: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data)
        if cookie:
            request.add_header("Cookie", cookie)
        with urllib.request.urlopen(request, timeout=600) as answer:
            self.cookie = (answer.headers.get("Set-Cookie") or "").partition(";")[0]
            body: bytes = answer.read()
        return body

    def open(self, count: int = PAGES) -> None:
        """Opens pages, each of a browser of its own."""
        for number in range(count):
            if self.kind == "guado":
                page = json.loads(self.get("/_guado/page", data=b'{"path": "/"}'))["page"]
                self.pages.append((page, self.cookie))
            else:
                self.pages.append((f"{number:022d}", "guado=0"))

    def fill(self) -> None:
        """Gives each page its values, and sees that they are kept."""
        for page, cookie in self.pages:
            self.get(f"/fill?page_id={page}", cookie)
            for expected in (b"1", b"2"):
                if (found := self.get(f"/work?page_id={page}", cookie)) != expected:
                    raise RuntimeError(f"{self.name}: {found!r} where {expected!r} was expected")

    def load(self, path: str, seconds: int) -> dict[str, float]:
        """wrk, one request of each page after the other."""
        lines = ["local all, at = {}, 0", "function init()"]
        for page, cookie in self.pages:
            where = f'"GET", "{path}?page_id={page}", {{["Cookie"] = "{cookie}"}}'
            lines.append(f"all[#all + 1] = wrk.format({where})")
        lines += ["end", "function request() at = at % #all + 1; return all[at] end"]
        found = run.wrk(self, "\n".join(lines), path, CONNECTIONS, seconds)
        if found["failed"]:
            raise RuntimeError(f"{self.name}: {found['failed']:.0f} requests failed")
        return found


Figures = dict[str, float]


def median(rounds: list[Figures]) -> Figures:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def calls(around: Beside, rounds: int) -> Figures:
    """Microseconds of one operation in a worker."""
    server = Server("guado", around, "guado")
    try:
        server.open(1)
        page, cookie = server.pages[0]
        server.get(f"/fill?page_id={page}", cookie)
        text = server.get(f"/calls?rounds={rounds}&page_id={page}", cookie)
    finally:
        server.stop()
    found: Figures = json.loads(text)
    return found


def workload(around: Beside, rounds: int, seconds: int) -> dict[str, Figures]:
    """The page workload on each server."""
    durable = {"state": 'durability = "host"\n'}
    kinds: dict[str, tuple[str, dict[str, str]]] = {
        "guado": ("guado", {}),
        DURABLE: ("guado", durable),
        "gunicorn, dict": ("dict", {}),
        "gunicorn, Pyro4": ("pyro", {}),
    }
    found: dict[str, list[Figures]] = {name: [] for name in kinds}
    with contextlib.ExitStack() as stack:
        servers = []
        for name, (kind, settings) in kinds.items():
            servers.append(server := Server(name, around, kind, **settings))
            stack.callback(server.stop)
            server.open()
            server.fill()
            server.load("/work", 1)
        for _ in range(rounds):
            for server in servers:
                found[server.name].append(server.load("/work", seconds))
    return {name: median(all) for name, all in found.items()}


def mirror(around: Beside, rounds: int, seconds: int) -> Figures:
    """CPU of all processes per request, in microseconds: ten values written into a store
    against ten into a dict; a page of which nothing is touched with stores against without."""
    cost: dict[str, list[float]] = {"written": [], "touched not": []}
    with contextlib.ExitStack() as stack:
        servers = []
        for name, phase in (("stores", 4), ("none", 3)):
            servers.append(server := Server(name, around, "guado", phase=phase))
            stack.callback(server.stop)
            server.open()
        stores, none = servers
        stores.fill()
        todo = [(stores, "/ten"), (stores, "/ten-plain"), (stores, "/"), (none, "/")]
        for number in range(rounds):
            cpu = {}
            for server, path in todo if number % 2 else todo[::-1]:
                cpu[server.name, path] = server.load(path, seconds)["cpu"]
            cost["written"].append(cpu["stores", "/ten"] - cpu["stores", "/ten-plain"])
            cost["touched not"].append(cpu["stores", "/"] - cpu["none", "/"])
    return {name: statistics.median(all) for name, all in cost.items()}


def report_calls(found: Figures) -> None:
    print(f"\n{'one operation in a worker, by the clock':44} {'µs':>8} {'× dict':>9}")
    for name, value in found.items():
        base = found["dict write" if "writ" in name else "dict read"]
        print(f"{name:44} {value:8.2f} {value / base:9.1f}")
    if "redis: one field" in found:
        ratio = found["host: look up a page"] / found["redis: all of an item"]
        one = found["host: is there a user"] / found["redis: one field"]
        what = "a look-up in the host's index, beside Redis' of an item"
        print(f"{what}: {ratio:.2f} × {figure(what, ratio, 1, unit='×')}")
        what = "whether the host's index has one, beside Redis' of a field"
        print(f"{what}: {one:.2f} × {figure(what, one, 1, unit='×')}")


def report_workload(found: dict[str, Figures]) -> None:
    print(
        f"\n{'56 operations a request, 16 connections':44} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8}"
    )
    for name, one in found.items():
        print(f"{name:44} {one['rate']:8.0f} {one['p50']:8.2f} {one['p99']:8.2f}")
    ours = found["guado"]
    for name, least in (("gunicorn, Pyro4", 30), ("gunicorn, dict", 3)):
        ratio = ours["rate"] / found[name]["rate"]
        what = f"page workload, beside {name}"
        print(f"{what}: {ratio:.1f} × {figure(what, ratio, least=least, unit='×')}")
    ratio = found[DURABLE]["rate"] / ours["rate"]
    what = 'page workload with durability = "host", beside "worker"'
    print(f"{what}: {ratio:.2f} × {figure(what, ratio, least=0.7, unit='×')}")
    ratio = ours["p99"] / found["gunicorn, Pyro4"]["p99"]
    what = "p99 of the page workload, beside gunicorn, Pyro4"
    print(f"{what}: {ratio:.3f} × {figure(what, ratio, 0.1, unit='×')}")


def report_mirror(found: Figures) -> None:
    print("\nCPU of all processes per request, µs")
    print(f"{'ten values written to a store, more than to a dict':60} {found['written']:6.2f}")
    text, cost = "a page of which nothing is touched, more than in phase 3", found["touched not"]
    what = "CPU of a request that touches nothing, more than in phase 3"
    print(f"{text:60} {cost:6.2f} {figure(what, cost, 1, unit='µs')}")


def measure(rounds: int, seconds: int) -> dict[str, Any]:
    """All of part two, printed as it comes."""
    found: dict[str, Any] = {}
    with beside() as around:
        found["calls"] = calls(around, rounds)
        report_calls(found["calls"])
        found["workload"] = workload(around, rounds, seconds)
        report_workload(found["workload"])
        found["mirror"] = mirror(around, rounds, seconds)
        report_mirror(found["mirror"])
    sys.stdout.flush()
    return found
