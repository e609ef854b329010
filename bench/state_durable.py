"""What it costs to survive the end of the server: state.durability = "worker" beside "host".

    bench/state_durable.py [--rounds 5] [--seconds 3] [--pages 10000] [--json FILE] [--check]

Requests: the page workload of bench/pages.py (56 operations, 10 of them writes) and a request
that writes ten values, by 16 connections, on servers that differ in [state] alone. A round
visits each server once; figures are medians over rounds, and the ratio is that of one round.

Start: so many pages with the values of the page workload, each of a browser of its own; the
server is killed with -9 and started again; the time runs from its start to the first answer
that has a page's values, without the import of the application, which the worker measures
itself. Beside it the same server with an empty folder: what a start costs that has nothing to
take back. --check fails where a figure is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pages
import run
from figures import figure

SETTINGS = {
    "worker": 'durability = "worker"',
    "host, interval": 'durability = "host"',
    "host, always": 'durability = "host"\nfsync = "always"',
}
LEAST, MOST = 0.7, 2.0


def requests(around: pages.Beside, rounds: int, seconds: int) -> dict[str, Any]:
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with contextlib.ExitStack() as stack:
        servers = []
        for name, state in SETTINGS.items():
            servers.append(server := pages.Server(name, around, "guado", state=state))
            stack.callback(server.stop)
            server.open()
            server.fill()
            server.load("/work", 1)
        for path in ("/work", "/ten"):
            found[path] = {name: [] for name in SETTINGS}
            for number in range(rounds):
                for server in servers if number % 2 else servers[::-1]:
                    found[path][server.name].append(server.load(path, seconds))
    out: dict[str, Any] = {}
    for path, by in found.items():
        for name, all_rounds in by.items():
            ratios = [a["rate"] / b["rate"] for a, b in zip(all_rounds, by["worker"], strict=True)]
            one = pages.median(all_rounds)
            out[f"{path} {name}"] = {**one, "ratio": statistics.median(ratios)}
    return out


def report_requests(found: dict[str, Any]) -> None:
    head = f"{'requests':28} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'cpu µs':>8}"
    print(f"{head} {'× worker':>9}")
    for name, one in found.items():
        row = f"{name:28} {one['rate']:8.0f} {one['p50']:8.2f} {one['p99']:8.2f} {one['cpu']:8.1f}"
        what = f'{name.partition(" ")[0]} with durability = "host" (interval), beside "worker"'
        interval = "interval" in name
        bound = figure(what, one["ratio"], least=LEAST, unit="×") if interval else ""
        print(f"{row} {one['ratio']:9.2f} {bound}")


class Again(pages.Server):
    """A server that is started again with the folder and the port of before."""

    folder: Path

    def begin(self) -> float:
        """Starts it; how long until it answers with a page's values (any answer, without one)."""
        path = self.folder / "guado.toml"
        at = time.monotonic()
        self.process = subprocess.Popen(
            [str(run.ROOT / "bin/guado"), "serve", "--config", str(path)],
            cwd=run.APPS,
            env={**os.environ, "BENCH_STORE": "guado", "PYTHONPATH": str(run.APPS)},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        where, cookie = "/ten-plain", ""
        if self.pages:
            page, cookie = self.pages[-1]
            where = f"/work?page_id={page}"
        while True:
            try:
                self.get(where, cookie)
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() - at > 120:
                    raise
                time.sleep(0.002)
            else:
                return time.monotonic() - at

    def imported(self) -> float:
        """Seconds that the import of the application took, as the newest worker says."""
        self.log.seek(0)
        return float(re.findall(rb"import_seconds=([0-9.]+)", self.log.read())[-1])

    def kill(self) -> None:
        """As the kernel does it that is out of memory."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        time.sleep(1)  # for the guard to end what is left


def start(around: pages.Beside, count: int, rounds: int) -> dict[str, Any]:
    state = SETTINGS["host, interval"]
    server = Again("again", around, "guado", state=state, log_level="info")
    server.folder = around.folder / f"guado-{server.port}"
    try:
        empty = []
        for _ in range(rounds):
            server.kill()
            empty.append(server.begin())
        with ThreadPoolExecutor(8) as pool:
            for page, cookie in pool.map(lambda _: fill(server), range(count)):
                server.pages.append((page, cookie))
        full, imports = [], []
        for _ in range(rounds):
            server.kill()
            full.append(server.begin())
            imports.append(server.imported())
            page, cookie = server.pages[count // 2]
            if int(server.get(f"/work?page_id={page}", cookie)) < 2:
                raise RuntimeError("a page has lost what its client was told")
        size = sum(f.stat().st_size for f in (server.folder / "state" / "log").iterdir())
    finally:
        server.stop()
    found = {"empty": empty, "full": full, "import": imports}
    return {name: statistics.median(all) for name, all in found.items()} | {"bytes": size}


def fill(server: pages.Server) -> tuple[str, str]:
    """Opens a page and gives it its values."""
    one = pages.Server.__new__(pages.Server)
    one.port = server.port
    page = json.loads(one.get("/_guado/page", data=b'{"path": "/"}'))["page"]
    cookie = one.cookie
    one.get(f"/fill?page_id={page}", cookie)
    one.get(f"/work?page_id={page}", cookie)
    return page, cookie


def report_start(found: dict[str, Any], count: int) -> float:
    took = found["full"] - found["import"]
    print(f"\nstart with an empty folder: {found['empty']:.2f} s to the first answer")
    print(
        f"behind kill -9 with {count} pages ({found['bytes'] / 1e6:.0f} MB): {found['full']:.2f} s"
    )
    what = f"from kill -9 of the host with {count} pages to an answer, less import"
    print(
        f"of these {found['import']:.2f} s for the import of the application; "
        f"without: {took:.2f} s {figure(what, took, MOST, unit='s')}"
    )
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    missed = False
    with pages.beside() as around:
        if args.seconds:
            found["requests"] = requests(around, args.rounds, args.seconds)
            report_requests(found["requests"])
            interval = [one for name, one in found["requests"].items() if "interval" in name]
            missed = any(one["ratio"] < LEAST for one in interval)
        sys.stdout.flush()
        if args.pages:
            found["start"] = start(around, args.pages, 3)
            missed |= report_start(found["start"], args.pages) > MOST
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    if args.check and missed:
        sys.exit("a figure is missed")


if __name__ == "__main__":
    main()
