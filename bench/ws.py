"""WebSockets and push beside peers: interleaved rounds on this machine, loopback only.

    bench/ws.py [--servers a,b] [--what idle,echo,broadcast] [--rounds 3] [--seconds 3]
                [--idle 5000,10000] [--echo 64] [--broadcast 2000,5000] [--times 5]
                [--json FILE] [--check]

  idle       memory that open connections take: anonymous memory of the server's process
             tree, the host and its workers apart, after garbage was collected, against the
             same server before they came
  echo       messages a second over all connections, each sent when the one before is back,
             and CPU per message of the server's process tree
  broadcast  100 bytes from one call of the application to all: milliseconds until the last
             receiver has them

Every server has one worker process. A round visits each server once, so that the machine's
moods fall on all alike; figures are medians over rounds. The client (bench/wsload) checks
what comes. `-push` are sessions of push: for echo a request of the page that its class
answers, for broadcast one guado.broadcast. --check fails where a figure that the project
promises is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import run

TOOLS = run.ROOT / ".cache" / "bench-ws"

GUADO = """
[server]
listen = ["127.0.0.1:{port}"]
log_level = "warn"
{server}
[server.limits]
connections = 0
connections_per_address = 0
[server.websocket]
connections = 0
connections_per_address = 0
[[app]]
name = "bench"
kind = "{kind}"
target = "{target}"
dir = "{apps}"
python = "{python}"
concurrency = 15000
[[mount]]
app = "bench"
"""


def guado(port: int, folder: str, push: bool) -> list[str]:
    text = GUADO.format(
        port=port,
        kind="wsgi" if push else "asgi",
        target="bench_push:app" if push else "bench_ws:app",
        server=f'phase = 3\nstate_dir = "{folder}/state"\n' if push else "",
        apps=run.APPS,
        python=run.BIN / "python",
    )
    path = Path(folder) / "guado.toml"
    path.write_text(text)
    return [str(TOOLS / "soakhost"), str(path)]


def command(name: str, port: int, folder: str) -> list[str]:
    """How a server is started. soakhost is `guado serve` that collects garbage when told."""
    asgi = "bench_ws:app"
    at = ["--host", "127.0.0.1", "--port", str(port)]
    match name:
        case "guado-asgi" | "guado-push":
            return guado(port, folder, name == "guado-push")
        case "gorilla":
            return [str(TOOLS / "gorilla"), f"127.0.0.1:{port}"]
        case "uvicorn":
            quiet = ["--no-access-log", "--log-level", "error", "--loop", "uvloop"]
            return [str(run.BIN / "uvicorn"), *at, *quiet, asgi]
        case "gunicorn":
            bind = ["-b", f"127.0.0.1:{port}", "--worker-connections", "20000"]
            return [str(run.BIN / "gunicorn"), "-w", "1", "-k", "asgi", *bind, asgi]
        case "granian":
            options = ["--workers", "1", "--interface", "asgi", "--loop", "uvloop"]
            return [str(run.BIN / "granian"), *at, *options, "--log-level", "error", asgi]
        case _:
            raise ValueError(f"no server {name!r}")


SERVERS = ("guado-asgi", "guado-push", "gorilla", "uvicorn", "gunicorn", "granian")


class Server(run.Server):
    """One running server."""

    def __init__(self, name: str, folder: str) -> None:
        self.name, self.port = name, run.free_port()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            command(name, self.port, folder),
            cwd=run.APPS,
            env={**os.environ, "PYTHONPATH": str(run.APPS)},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.wait()

    def get(self, path: str) -> None:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            answer.read()

    def collected(self) -> int:
        """How often the server said that it has collected."""
        self.log.seek(0)
        return self.log.read().count(b"collected")

    def trim(self) -> None:
        """Lets the server and its application collect garbage and give memory back."""
        if self.name != "gorilla":
            self.get("/trim")
        if self.name == "gorilla" or self.name.startswith("guado"):
            before = self.collected()
            os.kill(self.process.pid, signal.SIGUSR1)
            deadline = time.monotonic() + 30
            while self.collected() == before:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name} collected nothing within 30 s")
                time.sleep(0.05)

    def memory(self) -> tuple[int, int]:
        """KiB of anonymous memory: the first process, and all others of its tree."""
        self.trim()
        root = self.process.pid
        return anonymous(root), sum(anonymous(pid) for pid in run.tree(root) - {root})


def anonymous(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0


@contextlib.contextmanager
def load(server: Server, what: str, n: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The client with its connections open; a line on its input lets it go on."""
    path = "/join" if what != "echo" and server.name != "guado-push" else "/echo"
    options = [f"-addr=127.0.0.1:{server.port}", f"-what={what}", f"-n={n}", f"-path={path}"]
    if server.name == "guado-push":
        options.append("-push")
    client = subprocess.Popen(
        [str(TOOLS / "wsload"), *options, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        result(client, server, what)
        yield client
    finally:
        client.kill()
        client.communicate()


def result(client: subprocess.Popen[str], server: Server, what: str) -> dict[str, Any]:
    """The client's next line."""
    assert client.stdout is not None
    line = client.stdout.readline()
    if not line:
        raise RuntimeError(f"{server.name}: the client of {what} failed")
    return dict(json.loads(line))


def go(client: subprocess.Popen[str]) -> None:
    assert client.stdin is not None
    client.stdin.write("\n")
    client.stdin.flush()


def idle(server: Server, n: int, args: argparse.Namespace) -> dict[str, float]:
    # What a server makes once, on its first connections, is not theirs.
    with load(server, "idle", 100):
        pass
    time.sleep(0.5)
    host, rest = server.memory()
    with load(server, "idle", n):
        time.sleep(1)
        host_after, rest_after = server.memory()
    return {"host": (host_after - host) / n, "workers": (rest_after - rest) / n}


def echo(server: Server, n: int, args: argparse.Namespace) -> dict[str, float]:
    with load(server, "echo", n, f"-for={args.seconds}s") as client:
        time.sleep(0.3)
        before = run.tree_cpu(server.process.pid)
        go(client)
        out = result(client, server, "echo")
        cpu = run.tree_cpu(server.process.pid) - before
    return {**out, "cpu": cpu / max(out["messages"], 1) * 1e6}


def broadcast(server: Server, n: int, args: argparse.Namespace) -> dict[str, float]:
    with load(server, "broadcast", n, f"-times={args.times}") as client:
        time.sleep(0.5)
        go(client)
        out = result(client, server, "broadcast")
    return {"ms": statistics.median(out["ms"])}


LOADS = {"idle": idle, "echo": echo, "broadcast": broadcast}
Results = dict[tuple[str, int, str], list[dict[str, float]]]


def visit(name: str, args: argparse.Namespace, results: Results) -> None:
    """One server, all its loads. Memory is looked at in a process of its own."""
    for what in args.what.split(","):
        for n in map(int, str(getattr(args, what)).split(",")):
            with tempfile.TemporaryDirectory() as folder:
                server = Server(name, folder)
                try:
                    figures = LOADS[what](server, n, args)
                finally:
                    server.stop()
            results.setdefault((what, n, name), []).append(figures)


def build() -> None:
    """The client, the Go peer, and Guado as the soak tests run it."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    for package, where in (
        ("./bench/wsload", run.ROOT),
        ("./test/chaos/soakhost", run.ROOT),
        (".", run.ROOT / "bench" / "gorilla"),
    ):
        subprocess.run(["go", "build", "-o", f"{TOOLS}/", package], cwd=where, check=True)


UNITS = {
    "idle": ("host", "workers"),
    "echo": ("rate", "cpu", "p50", "p99"),
    "broadcast": ("ms",),
}
HEADS = {
    "idle": "KiB host   workers",
    "echo": "    msg/s    CPU µs   p50 ms   p99 ms",
    "broadcast": "   last ms",
}


def medians(results: Results) -> dict[tuple[str, int, str], dict[str, float]]:
    return {
        key: {unit: statistics.median(r[unit] for r in runs) for unit in UNITS[key[0]]}
        for key, runs in results.items()
    }


def table(results: Results) -> None:
    """Medians, one line per load, connections and server, with the ratio to the peer."""
    mid = medians(results)
    for what in dict.fromkeys(key[0] for key in mid):
        print(f"\n{what:10} {'conns':>6} {'server':12} {HEADS[what]}   ratio to")
        for (load_name, n, name), figures in mid.items():
            if load_name != what:
                continue
            cells = " ".join(f"{figures[unit]:9.2f}" for unit in UNITS[what])
            print(f"{what:10} {n:6} {name:12} {cells}   {ratio(mid, what, n, name)}")


PYTHON = ("uvicorn", "gunicorn", "granian")


def ratio(mid: dict[tuple[str, int, str], dict[str, float]], what: str, n: int, name: str) -> str:
    """A server of ours beside the one it is held against."""
    if not name.startswith("guado"):
        return ""
    if what == "echo":
        peers = {p: mid[what, n, p]["rate"] for p in PYTHON if (what, n, p) in mid}
        if not peers:
            return ""
        best = max(peers, key=lambda p: peers[p])
        return f"{mid[what, n, name]['rate'] / peers[best]:.2f} {best}"
    peer = mid.get((what, n, "gorilla"))
    if peer is None:
        return ""
    unit = "host" if what == "idle" else "ms"
    return f"{mid[what, n, name][unit] / peer[unit]:.2f} gorilla"


def missed(results: Results) -> list[str]:
    """The promises that were not kept."""
    mid = medians(results)
    out = []
    for (what, n, name), figures in mid.items():
        if not name.startswith("guado"):
            continue
        text = ratio(mid, what, n, name)
        value = float(text.split()[0]) if text else None
        where = f"{what} {n} {name}"
        if what == "echo" and value is not None and value < 1:
            out.append(f"{where}: {text}, promised at least 1.00")
        if what == "broadcast" and name == "guado-push" and value is not None and value > 1.15:
            out.append(f"{where}: {text}, promised at most 1.15")
        if what == "idle":
            if name == "guado-push" and value is not None and value > 0.8:
                out.append(f"{where}: {text}, promised at most 0.80")
            most = 3 if name == "guado-push" else 6
            if figures["workers"] > most:
                out.append(f"{where}: {figures['workers']:.1f} KiB in the worker, most {most}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--what", default=",".join(LOADS))
    parser.add_argument("--idle", default="5000,10000")
    parser.add_argument("--echo", default="64")
    parser.add_argument("--broadcast", default="2000,5000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", default="")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    # Whoever ends this program ends the servers that it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    build()
    results: Results = {}
    skipped: set[str] = set()
    for number in range(args.rounds):
        for name in args.servers.split(","):
            if name in skipped:
                continue
            try:
                visit(name, args, results)
            except (RuntimeError, OSError) as why:
                print(f"left out: {name}: {why}", file=sys.stderr)
                skipped.add(name)
        print(f"round {number + 1} of {args.rounds} done", file=sys.stderr)
    table(results)
    if args.json:
        rows = [
            {"load": k[0], "connections": k[1], "server": k[2], "runs": v}
            for k, v in results.items()
        ]
        Path(args.json).write_text(json.dumps(rows, indent=1))
    if args.check and (failed := missed(results) + [f"{name} was left out" for name in skipped]):
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
