"""What a worker tells of itself: STATS at each PING, and how long the application had an
exchange in the frames of its answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import link_host as h
import pytest
from link_host import Host
from test_link import TRANSPORTS, blocking, release, started


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def worker(transport: str) -> Iterator[Host]:
    with Host("link_apps:app", transport=transport) as host:
        host.ready()
        yield host


@pytest.fixture
def loop(transport: str) -> Iterator[Host]:
    with Host("link_apps:asgi", transport=transport) as host:
        host.ready()
        yield host


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def stats(host: Host) -> list[dict[str, int]]:
    """All that came so far."""
    return [json.loads(f.payload) for f in host.other if f.kind == h.STATS]


def beat(host: Host, nonce: int, payload: bytes = b"") -> dict[str, int]:
    """One PING, and the STATS that it asks for."""
    before = len(stats(host))
    host.send(h.PING, arg=nonce, payload=payload)
    host.until(lambda: len(stats(host)) > before)
    return stats(host)[-1]


def clock(ago: float = 0.0) -> bytes:
    """CLOCK_MONOTONIC as the host sends it."""
    return int((time.monotonic() - ago) * 1e6).to_bytes(8, "little")


def test_each_request_of_a_thread_is_a_wait_for_the_gil(worker: Host) -> None:
    first = beat(worker, 1)
    for _ in range(5):
        worker.get(b"/hello")
    now = beat(worker, 2)
    assert now["gil_waits"] - first["gil_waits"] == 5
    assert now["gil_wait_us"] >= first["gil_wait_us"]


def have_both_threads_work(worker: Host, fifo: Path) -> None:
    """A thread that never worked takes the GIL before it takes its first request."""
    other = fifo.with_name("other")
    os.mkfifo(other)
    streams = [blocking(worker, path, b"/blocked", n) for n, path in enumerate((fifo, other))]
    for path, stream in zip((fifo, other), streams, strict=True):
        release(path)
        worker.answer(stream)


def test_a_held_gil_shows_as_a_wait(worker: Host, fifo: Path) -> None:
    have_both_threads_work(worker, fifo)
    before = beat(worker, 1)["gil_wait_us"]
    holder = blocking(worker, fifo, b"/hold_gil", 0)
    beat(worker, 2)  # the watch thread tells, whoever has the GIL
    waiting = worker.request(1, path=b"/hello")
    started(worker, waiting)
    began = time.monotonic()
    beat(worker, 3)
    held = time.monotonic() - began
    release(fifo)
    worker.answer(holder)
    worker.answer(waiting)
    assert beat(worker, 4)["gil_wait_us"] - before >= int(held * 1e6)


def test_the_loop_tells_how_late_it_came(loop: Host) -> None:
    assert beat(loop, 1, clock())["loop_lag_us"] > 0
    # A PING that was under way for long is a loop that came late, whoever read it.
    assert beat(loop, 2, clock(ago=100))["loop_lag_us"] >= 100_000_000
    assert beat(loop, 3, clock())["loop_lag_us"] < 100_000_000
    assert beat(loop, 4)["loop_lag_us"] < 100_000_000  # a host that has no such clock


def test_a_blocked_loop_is_told_while_it_is_blocked(loop: Host, fifo: Path) -> None:
    stream = blocking(loop, fifo, b"/block", 0)
    # The loop has one wake-up in hand; the frame after it calls the watch thread.
    loop.send(h.PING, arg=1, payload=clock())
    late = beat(loop, 2, clock())["loop_lag_us"]
    assert beat(loop, 3, clock())["loop_lag_us"] > late > 0
    release(fifo)
    assert loop.answer(stream).body == b"async hello"


def test_answers_say_how_long_the_application_had_the_exchange(worker: Host, loop: Host) -> None:
    for host, path in ((worker, b"/hello"), (loop, b"/x")):
        began = time.monotonic()
        answer = host.get(path)
        took = (time.monotonic() - began) * 1e6
        spent = [f.arg for f in answer.frames if f.kind in (h.COMMIT, h.RESPONSE_BODY)]
        assert all(1 <= us <= took for us in spent[-1:]), (spent, took)
