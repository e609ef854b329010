"""Guado beside its peers: interleaved rounds on this machine, loopback only.

    bench/run.py [--servers a,b] [--loads hello,echo] [--connections 1,64]
                 [--rounds 3] [--seconds 3] [--json FILE]

Every server runs one worker process. A round visits every server once, so that the
machine's moods fall on all alike; figures are medians over rounds. Answers are
checked before anything is measured. CPU is that of the server's whole process tree.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "bench" / "apps"
BIN = ROOT / ".cache" / "bench" / "bin"
TICK = os.sysconf("SC_CLK_TCK")


def servers(port: int) -> dict[str, tuple[str, list[str]]]:
    """Name → (interface, command)."""
    guado = [str(ROOT / "bin/guado"), "serve", "--listen", f"127.0.0.1:{port}"]
    guado += ["--python", str(BIN / "python"), "--log-level", "warn"]
    at = f"127.0.0.1:{port}"
    granian = [str(BIN / "granian"), "--port", str(port), "--workers", "1", "--log-level", "error"]
    uvicorn = [str(BIN / "uvicorn"), "--port", str(port), "--loop", "uvloop"]
    gunicorn = [str(BIN / "gunicorn"), "-w", "1", "-b", at, "--log-level", "error"]
    wsgi, asgi = "bench_wsgi:app", "bench_asgi:app"
    uwsgi = [str(BIN / "uwsgi"), "--http11-socket", at, "--module", wsgi, "--master"]
    uwsgi += ["--processes", "1", "--disable-logging", "--listen", "128", "--die-on-term"]
    return {
        "guado-wsgi-1": ("wsgi", [*guado, "--threads", "1", wsgi]),
        "guado-wsgi-8": ("wsgi", [*guado, "--threads", "8", wsgi]),
        "guado-wsgi-64": ("wsgi", [*guado, "--threads", "64", wsgi]),
        "guado-asgi": ("asgi", [*guado, asgi]),
        "granian-wsgi-1": (
            "wsgi",
            [*granian, "--interface", "wsgi", "--blocking-threads", "1", wsgi],
        ),
        "granian-wsgi-8": (
            "wsgi",
            [*granian, "--interface", "wsgi", "--blocking-threads", "8", wsgi],
        ),
        "granian-wsgi": ("wsgi", [*granian, "--interface", "wsgi", wsgi]),
        "granian-asgi": ("asgi", [*granian, "--interface", "asgi", "--loop", "uvloop", asgi]),
        "uvicorn": (
            "asgi",
            [*uvicorn, "--http", "httptools", "--no-access-log", "--log-level", "error", asgi],
        ),
        "gunicorn-gthread": ("wsgi", [*gunicorn, "-k", "gthread", "--threads", "8", wsgi]),
        "gunicorn-asgi": ("asgi", [*gunicorn, "-k", "asgi", asgi]),
        "uwsgi": ("wsgi", [*uwsgi, "--threads", "8"]),
    }


BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "http://127.0.0.1/start?from=here",
    "Cookie": "sessionid=0123456789abcdef0123456789abcdef; csrftoken=abcdefghijklmnopqrstuvwxyz",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Priority": "u=0, i",
}


@dataclass(frozen=True)
class Load:
    """One kind of request."""

    path: str
    want: bytes
    post: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


LOADS = {
    "hello": Load("/hello", b"Hello, world!\n"),
    "hello-browser": Load("/hello", b"Hello, world!\n", headers=BROWSER),
    "reply": Load("/reply", b"x" * 10240),
    "echo": Load("/echo", b"z" * 10240, post=b"z" * 10240),
    "stream": Load("/stream", b"y" * 10240),
    "sleep": Load("/sleep", b"Hello, world!\n"),
}


def stats() -> dict[int, list[str]]:
    """The fields of each process, from its state on."""
    out: dict[int, list[str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            out[int(entry)] = text.rpartition(")")[2].split()
    return out


def tree(root: int, known: dict[int, list[str]] | None = None) -> set[int]:
    """The process and its descendants."""
    known = stats() if known is None else known
    mine, grew = {root}, True
    while grew:
        more = {pid for pid, rest in known.items() if int(rest[1]) in mine} - mine
        grew = bool(more)
        mine |= more
    return mine


def tree_cpu(root: int) -> float:
    """Seconds of CPU that the process and its descendants have used."""
    known = stats()
    mine = tree(root, known)
    return sum(sum(map(int, known[pid][11:15])) for pid in mine if pid in known) / TICK


class Server:
    """One running server."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.interface, command = servers(port)[name]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        env = {**os.environ, "PYTHONPATH": str(APPS)}
        self.process = subprocess.Popen(
            command, cwd=APPS, env=env, stdout=self.log, stderr=self.log, start_new_session=True
        )
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    pass
                self.ask(LOADS["hello"])
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
        self.log.seek(0)
        output = self.log.read().decode(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{output}")

    def ask(self, load: Load) -> bytes:
        """One request, its answer checked."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        c.request("POST" if load.post else "GET", load.path, load.post or None, load.headers)
        answer = c.getresponse()
        body = answer.read()
        c.close()
        if answer.status != 200 or body != load.want:
            raise RuntimeError(
                f"{self.name}{load.path}: wrong answer {answer.status} {body[:80]!r}"
            )
        return body

    def stop(self) -> None:
        """Ends the process group it was started in."""
        for sig in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sig)
            except ProcessLookupError:
                break
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                continue
        self.log.close()


UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def millis(text: str) -> float:
    """wrk's "1.23ms" in milliseconds."""
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(value) * UNITS[unit]


def measure(server: Server, load: Load, connections: int, seconds: int) -> dict[str, float]:
    """One run of wrk against the server."""
    script = f'wrk.method = "{"POST" if load.post else "GET"}"\n'
    if load.post:
        script += f'wrk.body = string.rep("z", {len(load.post)})\n'
    for name, value in load.headers.items():
        script += f'wrk.headers["{name}"] = "{value}"\n'
    return wrk(server, script, load.path, connections, seconds)


def wrk(server: Server, text: str, path: str, connections: int, seconds: int) -> dict[str, float]:
    """One run of wrk with this script."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(text)
        script.flush()
        url = f"http://127.0.0.1:{server.port}{path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        before = tree_cpu(server.process.pid)
        out = subprocess.run(
            [*command, "-s", script.name, url], capture_output=True, text=True, check=True
        ).stdout
        cpu = tree_cpu(server.process.pid) - before
    requests = int(re.search(r"(\d+) requests in", out).group(1))  # type: ignore[union-attr]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    failed = (int(bad.group(1)) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0)
    pick = {p: millis(re.search(rf"(?m)^\s+{p}%\s+(\S+)", out).group(1)) for p in (50, 99)}  # type: ignore[union-attr]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))  # type: ignore[union-attr]
    return {
        "rate": rate,
        "cpu": cpu / max(requests, 1) * 1e6,
        "p50": pick[50],
        "p99": pick[99],
        "failed": failed,
    }


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--servers", default=",".join(servers(0)))
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--connections", default="1,64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    results: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    skipped: set[str] = set()
    for number in range(args.rounds):
        for name in args.servers.split(","):
            if name in skipped:
                continue
            try:
                server = Server(name, free_port())
            except (RuntimeError, OSError) as why:
                print(f"left out: {why}", file=sys.stderr)
                skipped.add(name)
                continue
            try:
                for load_name in args.loads.split(","):
                    try:
                        server.ask(LOADS[load_name])
                    except (OSError, RuntimeError, http.client.HTTPException) as why:
                        print(f"left out: {name} {load_name}: {why}", file=sys.stderr)
                        continue
                    for connections in map(int, args.connections.split(",")):
                        run = measure(server, LOADS[load_name], connections, args.seconds)
                        results.setdefault((load_name, name, connections), []).append(run)
            finally:
                server.stop()
        print(f"round {number + 1} of {args.rounds} done", file=sys.stderr)
    table(results)
    if args.json:
        rows = [
            {"load": k[0], "server": k[1], "connections": k[2], "runs": v}
            for k, v in results.items()
        ]
        Path(args.json).write_text(json.dumps(rows, indent=1))


def table(results: dict[tuple[str, str, int], list[dict[str, float]]]) -> None:
    """Medians, one line per load, connections and server."""
    print(
        f"{'load':14} {'conns':>5} {'server':18} {'req/s':>9} {'CPU µs':>8} "
        f"{'p50 ms':>8} {'p99 ms':>8} {'failed':>7}"
    )
    for (load, name, connections), runs in sorted(
        results.items(), key=lambda r: (r[0][0], r[0][2], r[0][1])
    ):
        mid = {key: statistics.median(r[key] for r in runs) for key in runs[0]}
        print(
            f"{load:14} {connections:5} {name:18} {mid['rate']:9.0f} {mid['cpu']:8.1f} "
            f"{mid['p50']:8.2f} {mid['p99']:8.2f} {sum(r['failed'] for r in runs):7.0f}"
        )


if __name__ == "__main__":
    main()
