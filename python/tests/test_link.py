"""The worker's end of the link against the host's end in link_host.py."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import link_host as h
import pytest
from link_host import Host, MemoryWire

TRANSPORTS = ["shm", "socket"]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(transport: str) -> Iterator[Callable[..., Host]]:
    """Starts a worker that serves link_apps:app and waits for READY."""
    hosts: list[Host] = []

    def begin(*targets: str, ready: bool = True, **options: object) -> Host:
        hosts.append(Host(*(targets or ("link_apps:app",)), transport=transport, **options))  # type: ignore[arg-type]
        if ready:
            hosts[-1].ready()
        return hosts[-1]

    yield begin
    for host in hosts:
        host.close()


@pytest.fixture
def worker(start: Callable[..., Host]) -> Host:
    return start()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def release(fifo: Path) -> None:
    """Lets the one who blocks on the fifo go; waits until it blocks."""
    os.close(os.open(fifo, os.O_WRONLY))


def blocking(host: Host, fifo: Path, path: bytes, slot: int, **what: object) -> int:
    """A request that blocks in the application; returns when the application has it."""
    stream = host.request(slot, path=path, query=str(fifo).encode(), **what)
    started(host, stream)
    return stream


def started(host: Host, stream: int) -> None:
    wire = host.wire
    if isinstance(wire, MemoryWire):
        host.until(lambda: wire.state(stream) == h.STATE_STARTED)
    else:
        host.until(lambda: h.STARTED in host.answers.get(stream, h.Answer()).kinds())


# -- handshake


def test_ready_names_both_sides(worker: Host) -> None:
    ready = worker.message(h.READY)
    assert ready["protocol"] == 1
    assert ready["pid"] == worker.process.pid
    assert ready["apps"] == [{"name": "app0", "kind": "wsgi"}]
    assert ready["threads"] == 2


def test_hello_may_come_in_fragments(start: Callable[..., Host]) -> None:
    host = start(say_hello=False, ready=False)
    hello = json.dumps(host.hello).encode()
    for part in (hello[:1], hello[1:50]):
        host.send(h.HELLO, 0, part, h.MORE)
    host.send(h.HELLO, 0, hello[50:])
    host.ready()


def test_another_protocol_is_refused_by_naming_both_versions(start: Callable[..., Host]) -> None:
    host = start(ready=False, hello={"protocol": 2, "version": "9.9"})
    failed = host.message(h.FAILED)
    assert failed["stage"] == "handshake"
    assert "9.9" in str(failed["message"])
    assert "protocol 2" in str(failed["message"])
    assert "protocol 1" in str(failed["message"])
    assert host.process.wait(h.TIMEOUT) == 3


def test_a_hello_that_is_no_json_is_refused(start: Callable[..., Host]) -> None:
    host = start(say_hello=False, ready=False)
    host.send(h.HELLO, 0, b"{not json")
    assert host.message(h.FAILED)["stage"] == "handshake"


# -- requests and answers


def test_a_small_answer_is_one_frame(worker: Host) -> None:
    answer = worker.get(b"/hello")
    assert (answer.status, answer.body, answer.length) == (200, b"hello", 5)
    assert [k for k in answer.kinds() if k != h.STARTED] == [h.COMMIT]
    assert answer.frames[-1].flags == h.END


def test_the_started_word_is_set_before_the_application_is_called(worker: Host, fifo: Path) -> None:
    stream = blocking(worker, fifo, b"/blocked", 0)
    release(fifo)
    assert worker.answer(stream).body == b"free"


def test_a_request_longer_than_a_frame_is_put_together(worker: Host) -> None:
    headers = [(b"HTTP_X_%d" % i, b"v" * 10_000) for i in range(40)]
    environ = json.loads(worker.get(b"/deep", headers=headers).body)
    assert environ["HTTP_X_39"] == "v" * 10_000


def test_answers_longer_than_frame_and_credit_arrive_whole(worker: Host) -> None:
    answer = worker.get(b"/big", query=b"3000000")
    assert len(answer.body) == 3_000_000
    assert answer.body == bytes(i % 251 for i in range(3_000_000))
    assert max(len(frame.payload) for frame in answer.frames) <= 131072 - 16


def test_an_answer_waits_for_credit(worker: Host) -> None:
    worker.credit_back = False
    stream = worker.request(path=b"/big", query=b"300000")
    worker.until(lambda: len(worker.answers.get(stream, h.Answer()).body) == 262144)
    # Another exchange passes the one that waits, and not a byte beyond the credit comes.
    assert worker.answer(worker.request(1, path=b"/hello")).body == b"hello"
    assert len(worker.answers[stream].body) == 262144
    worker.send(h.CREDIT, stream, arg=1000)
    worker.until(lambda: len(worker.answers[stream].body) == 263144)
    worker.send(h.CREDIT, stream, arg=1 << 30)
    assert len(worker.answer(stream).body) == 300_000


def test_two_long_answers_take_turns(worker: Host) -> None:
    worker.credit_back = False
    streams = [worker.request(slot, path=b"/big", query=b"6000000") for slot in (0, 1)]
    for stream in streams:
        worker.until(lambda s=stream: len(worker.answers.get(s, h.Answer()).body) == 262144)  # type: ignore[misc]
    worker.order.clear()
    for stream in streams:
        worker.send(h.CREDIT, stream, arg=1 << 30)
    for stream in streams:
        assert len(worker.answer(stream).body) == 6_000_000
    turns = sum(a != b for a, b in itertools.pairwise(worker.order))
    assert turns >= 8, worker.order


def test_bodies_stream_within_their_credit(worker: Host) -> None:
    stream = worker.request(path=b"/echo", flags=0, length=500_000)
    data = random.Random(1).randbytes(500_000)

    def credit() -> int:
        frames = worker.answers.get(stream, h.Answer()).frames
        granted = 65536 + sum(f.arg for f in frames if f.kind == h.CREDIT_UP)
        assert granted - sent <= 65536
        return granted - sent

    sent = 0
    while sent < len(data):
        worker.until(credit)
        part = data[sent : sent + min(20_000, credit())]
        sent += len(part)
        worker.send(h.BODY, stream, part, h.END if sent == len(data) else 0)
    assert worker.answer(stream).body == data


def test_a_body_beyond_the_credit_ends_the_link(worker: Host, fifo: Path) -> None:
    stream = blocking(worker, fifo, b"/blocked", 0, flags=0, length=-1)
    worker.send(h.BODY, stream, b"x" * 65536)
    worker.send(h.BODY, stream, b"x")
    assert worker.process.wait(h.TIMEOUT) != 0


def test_a_cut_body_is_never_taken_for_a_whole_one(worker: Host) -> None:
    stream = worker.request(path=b"/late_read", flags=0, length=-1)
    worker.send(h.BODY, stream, b"part")
    worker.send(h.BODY, stream, b"", h.END, arg=1)
    answer = worker.answer(stream)
    assert answer.abort is not None
    assert answer.status == 0


def test_the_first_read_asks_for_the_body_once(worker: Host) -> None:
    stream = worker.stream()
    worker.wire.start(stream)
    worker.send(h.REQUEST, stream, h.request(path=b"/swallow", flags=2, length=10))
    worker.until(lambda: h.INFORMATIONAL in worker.answers.get(stream, h.Answer()).kinds())
    worker.send(h.BODY, stream, b"01234")
    worker.send(h.BODY, stream, b"56789", h.END)
    answer = worker.answer(stream)
    assert answer.body == b"10"
    asked = [f for f in answer.frames if f.kind == h.INFORMATIONAL]
    assert len(asked) == 1
    assert struct.unpack_from("<H", asked[0].payload) == (100,)


def test_an_application_that_never_reads_never_asks_for_the_body(worker: Host) -> None:
    stream = worker.stream()
    worker.wire.start(stream)
    worker.send(h.REQUEST, stream, h.request(path=b"/hello", flags=2, length=10))
    assert h.INFORMATIONAL not in worker.answer(stream).kinds()


def test_frames_of_an_ended_stream_are_dropped(worker: Host) -> None:
    stream = worker.request(path=b"/hello")
    worker.answer(stream)
    for kind in (h.BODY, h.CANCEL, h.CREDIT):
        worker.send(kind, stream, b"late" if kind == h.BODY else b"", arg=1)
    assert worker.get(b"/hello").body == b"hello"


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("<IBBHII", 16, h.REQUEST, 0, 1, 1 << 16, 0),
        struct.pack("<IBBHII", 0, 0, 0, 0, 0, 0),
        struct.pack("<IBBHII", 1 << 30, h.BODY, 0, 0, 1 << 16, 0),
        h.encode(0x33, 0, 0, 0, b""),
        h.encode(h.COMMIT, 0, 1 << 16, 0, b""),
        h.encode(h.REQUEST, 0, 1 << 16, 0, b"short"),
        h.encode(h.REQUEST, 0, 5, 0, h.request()),
        h.encode(h.REQUEST, 0, 1 << 16, 0, h.request(app=7)),
        h.encode(h.REQUEST, 0, 1 << 16, 0, h.request() + b"x"),
        h.encode(h.PING, 0, 1 << 16, 0, b""),
    ],
    ids=[
        "zero",
        "hole",
        "size",
        "kind",
        "direction",
        "short",
        "generation",
        "app",
        "tail",
        "stream",
    ],
)
def test_a_corrupt_frame_ends_the_worker(worker: Host, frame: bytes) -> None:
    worker.wire.send(frame + b"\0" * (-len(frame) % 8))
    assert worker.process.wait(h.TIMEOUT) != 0


@pytest.mark.parametrize("ahead", [4, -8, 1 << 40], ids=["unaligned", "back", "too far"])
def test_a_cursor_that_cannot_be_ends_the_worker(worker: Host, ahead: int) -> None:
    if not isinstance(worker.wire, MemoryWire):
        pytest.skip("the socket transport has no cursors")
    assert worker.get(b"/hello").body == b"hello"
    worker.wire.head += ahead
    worker.wire.publish()
    assert worker.process.wait(h.TIMEOUT) != 0


def test_random_sizes_wrap_around_small_rings(start: Callable[..., Host], transport: str) -> None:
    host = start(ring=65536)
    dice = random.Random(7)
    for i in range(300):
        body = dice.randbytes(dice.choice([0, 1, 7, 8, 9, 100, 1000, 5000]))
        most = 65536 // 8 - 600
        stream = host.request(i % 5, path=b"/echo", body=body[:most], length=len(body[:most]))
        assert host.answer(stream).body == body[:most]


# -- cancelled and revoked


def test_cancel_reaches_a_write(worker: Host, fifo: Path) -> None:
    stream = worker.request(path=b"/late_write", query=str(fifo).encode())
    worker.until(lambda: worker.answers.get(stream, h.Answer()).body == b"early")
    worker.send(h.CANCEL, stream, arg=1)
    worker.answer(worker.request(1, path=b"/hello"))  # CANCEL has been read by now
    release(fifo)
    answer = worker.answer(stream)
    assert answer.abort is not None
    assert answer.abort[0] == 3
    assert answer.body == b"early"


def test_cancel_reaches_a_read(worker: Host) -> None:
    stream = worker.request(path=b"/late_read", flags=0, length=-1)
    started(worker, stream)
    worker.send(h.CANCEL, stream, arg=1)
    assert worker.answer(stream).abort is not None


def test_a_half_closed_client_still_gets_its_answer(worker: Host, fifo: Path) -> None:
    stream = blocking(worker, fifo, b"/blocked", 0)
    worker.send(h.CANCEL, stream, arg=2)
    release(fifo)
    assert worker.answer(stream).body == b"free"


def test_cancel_frees_an_answer_that_waits_for_credit(worker: Host) -> None:
    worker.credit_back = False
    stream = worker.request(path=b"/big", query=b"900000")
    worker.until(lambda: len(worker.answers.get(stream, h.Answer()).body) == 262144)
    worker.send(h.CANCEL, stream, arg=1)
    assert worker.answer(stream).abort is not None


@pytest.mark.parametrize("followed", [False, True])
def test_a_revoked_request_is_forgotten(
    start: Callable[..., Host], tmp_path: Path, followed: bool
) -> None:
    host = start(hello={"threads": 1})
    if not isinstance(host.wire, MemoryWire):
        pytest.skip("the socket transport has no revoking")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = blocking(host, gate, b"/blocked", 0)
    queued = host.request(1, path=b"/hello")
    host.wire.set_word(h.DATA_AT + 4, queued & 0xFFFF0000 | h.REVOKED)
    # The slot may go on with its next stream while the revoked one is still queued.
    following = host.request(1 if followed else 2, path=b"/hello")
    release(gate)
    assert host.answer(first).body == b"free"
    assert host.answer(following).body == b"hello"
    assert queued not in host.answers


# -- files


@pytest.fixture
def large(tmp_path: Path) -> bytes:
    """A file that is worth a descriptor."""
    path = tmp_path / "large"
    path.write_bytes(bytes(200_000))
    return str(path).encode()


def test_a_file_is_one_frame_and_one_descriptor(worker: Host, large: bytes) -> None:
    stream = worker.request(path=b"/file", query=large)
    frame = next(f for f in worker.answer(stream).frames if f.kind == h.FILE)
    offset, count = struct.unpack("<QQ", frame.payload)
    of, sequence, descriptor = worker.descriptor()
    assert (of, sequence) == (stream, frame.arg)
    with open(descriptor, "rb") as sent:
        assert sent.name == descriptor
        assert os.fstat(descriptor).st_size == count
        assert offset == 0


def test_descriptors_wait_for_a_full_control_socket_and_lose_nothing(
    worker: Host, large: bytes
) -> None:
    """Far more than the socket takes: answers go on, descriptors follow when there is room."""
    streams = [worker.request(slot, path=b"/file", query=large) for slot in range(600)]
    for stream in streams:
        worker.answer(stream)
    found = []
    for _ in streams:
        stream, sequence, descriptor = worker.descriptor()
        os.close(descriptor)
        found.append((stream, sequence))
    assert sorted(found) == [(stream, 0) for stream in sorted(streams)]
    assert worker.drain() == 0


# -- who reads


def test_a_second_thread_takes_over_while_the_first_blocks(worker: Host, fifo: Path) -> None:
    first = blocking(worker, fifo, b"/blocked", 0)
    assert worker.answer(worker.request(1, path=b"/hello")).body == b"hello"
    release(fifo)
    assert worker.answer(first).body == b"free"


def test_a_request_queued_behind_busy_threads_is_served_when_one_finishes(
    worker: Host, tmp_path: Path
) -> None:
    gates = [tmp_path / f"gate{i}" for i in range(2)]
    for gate in gates:
        os.mkfifo(gate)
    held = [blocking(worker, gate, b"/blocked", i) for i, gate in enumerate(gates)]
    waiting = [worker.request(2 + i, path=b"/hello") for i in range(5)]
    release(gates[0])
    for stream in waiting:
        assert worker.answer(stream).body == b"hello"
    release(gates[1])
    for stream in held:
        assert worker.answer(stream).body == b"free"


def test_ping_is_answered_while_the_gil_is_held(worker: Host, fifo: Path) -> None:
    stream = blocking(worker, fifo, b"/hold_gil", 0)
    for nonce in (1, 2, 3):
        worker.send(h.PING, arg=nonce)
        worker.until(lambda n=nonce: any(f.kind == h.PONG and f.arg == n for f in worker.other))  # type: ignore[misc]
    release(fifo)
    assert worker.answer(stream).body == b"free"


def test_ping_is_answered_while_the_loop_is_blocked(start: Callable[..., Host], fifo: Path) -> None:
    host = start("link_apps:asgi")
    stream = blocking(host, fifo, b"/block", 0)
    for nonce in (1, 2, 3):
        host.send(h.PING, arg=nonce)
        # The loop has one wake-up in hand; the second PING is what calls the watch thread.
        host.send(h.PING, arg=nonce + 100)
        host.until(lambda n=nonce: any(f.kind == h.PONG and f.arg == n + 100 for f in host.other))  # type: ignore[misc]
    release(fifo)
    assert host.answer(stream).body == b"async hello"
    assert host.answer(host.request(1, path=b"/x")).body == b"async hello"


def test_requests_filed_while_the_loop_was_blocked_are_served(
    start: Callable[..., Host], fifo: Path
) -> None:
    host = start("link_apps:asgi")
    stream = blocking(host, fifo, b"/block", 0)
    host.wire.wait(0.1)  # long enough for the watch thread to park, as a rule
    others = [host.request(i, path=b"/x") for i in range(1, 40)]
    host.send(h.PING, arg=9)
    host.until(lambda: any(f.kind == h.PONG for f in host.other))
    release(fifo)
    for other in (stream, *others):
        assert host.answer(other).body == b"async hello"


def test_threads_and_a_loop_share_a_worker(start: Callable[..., Host], fifo: Path) -> None:
    host = start("link_apps:app", "link_apps:asgi")
    assert [a["kind"] for a in host.message(h.READY)["apps"]] == ["wsgi", "asgi"]  # type: ignore[union-attr, attr-defined]
    held = blocking(host, fifo, b"/blocked", 0)
    for i in range(1, 20):
        stream = host.request(i, path=b"/hello", app=i % 2)
        assert host.answer(stream).body == (b"async hello" if i % 2 else b"hello")
    body = host.request(20, path=b"/count", app=1, flags=0, length=-1)
    for _ in range(5):
        host.send(h.BODY, body, b"0123456789")
    host.send(h.BODY, body, b"", h.END)
    assert host.answer(body).body == b"50"
    release(fifo)
    assert host.answer(held).body == b"free"
    assert host.drain() == 0


@pytest.mark.parametrize("apps", [("wsgi",), ("asgi",), ("wsgi", "asgi")])
def test_a_worker_serves_while_threads_of_its_application_wait_for_replies(
    start: Callable[..., Host], apps: tuple[str, ...]
) -> None:
    """Whoever of them reads at that moment lets go of it."""
    for _ in range(3):
        host = start(*(f"link_waits:{app}" for app in apps))
        for i, _ in enumerate(apps * 10):
            assert host.answer(host.request(i, app=i % len(apps))).body == b"served"


def test_an_idle_worker_sleeps(start: Callable[..., Host], transport: str) -> None:
    """Nothing ticks when there is nothing to do: no thread of the link is scheduled."""
    for app, path in (("link_apps:app", b"/hello"), ("link_apps:asgi", b"/x")):
        host = start(app)
        for _ in range(3):
            host.get(path)
        host.until(lambda one=host: sleeps(one))  # type: ignore[misc]


def sleeps(host: Host) -> bool:
    """Whether no thread was scheduled for half a second. A busy machine may need a while
    until all have gone to sleep; one that ticks never has."""
    before = sum(switches(host.process.pid).values())
    host.wire.wait(0.5)
    return sum(switches(host.process.pid).values()) - before <= 2


def switches(pid: int) -> dict[str, int]:
    """How often each thread has gone to sleep."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                found[task.name] = int(line.split()[1])
    return found


def test_an_idle_worker_wakes_one_thread_for_one_request(start: Callable[..., Host]) -> None:
    host = start(hello={"threads": 8})
    host.get(b"/hello")
    before = switches(host.process.pid)
    for _ in range(50):
        host.get(b"/hello")
    after = switches(host.process.pid)
    # One reader sleeps for each request, beside the watch thread, which ticks; where the
    # machine is slow a second one helps. Of a herd all eight would wake each time.
    woken = [task for task, count in after.items() if count - before.get(task, 0) >= 40]
    assert len(woken) < 8


# -- the ends


def test_drain_finishes_what_runs_and_exits_zero(worker: Host, fifo: Path) -> None:
    stream = blocking(worker, fifo, b"/blocked", 0)
    worker.send(h.DRAIN, arg=5000)
    release(fifo)
    assert worker.answer(stream).body == b"free"
    assert worker.process.wait(h.TIMEOUT) == 0


def test_atexit_runs_at_a_drain(worker: Host) -> None:
    worker.get(b"/say_at_exit")
    assert worker.drain() == 0
    assert "atexit ran" in worker.errors()


def test_a_thread_that_never_ends_keeps_neither_atexit_nor_the_exit(worker: Host) -> None:
    worker.get(b"/say_at_exit")
    worker.get(b"/stuck_thread")
    assert worker.drain() == 0
    errors = worker.errors()
    assert "never-ends" in errors
    assert "atexit ran" in errors


@pytest.mark.parametrize("state", ["idle", "busy", "gil", "loop", "import"])
def test_the_worker_ends_with_its_host(start: Callable[..., Host], fifo: Path, state: str) -> None:
    if state == "import":
        host = start("link_blocks:app", ready=False, env={"LINK_GATE": str(fifo)})
        gate = os.open(fifo, os.O_WRONLY)  # returns when the import has opened it
    else:
        host = start("link_apps:asgi" if state == "loop" else "link_apps:app")
        host.get(b"/hello")
        path = {"busy": b"/blocked", "gil": b"/hold_gil", "loop": b"/block"}.get(state)
        if path:
            blocking(host, fifo, path, 0)
    host.control.close()
    assert host.process.wait(h.TIMEOUT) != 0
    if state == "import":
        os.close(gate)


def test_signals_for_the_group_do_not_end_a_worker(worker: Host, fifo: Path) -> None:
    stream = blocking(worker, fifo, b"/blocked", 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        worker.process.send_signal(number)
    assert worker.answer(worker.request(1, path=b"/hello")).body == b"hello"
    release(fifo)
    assert worker.answer(stream).body == b"free"
    assert worker.drain() == 0


# -- children of the application


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_in_every_start_method(worker: Host, method: str) -> None:
    for _ in range(2):
        answer = worker.get(b"/pool", query=method.encode())
        assert answer.body == b"[0, 1, 4, 9, 16]", (answer, worker.other)
    assert worker.drain() == 0


def test_a_forked_child_obeys_sigterm(worker: Host) -> None:
    assert worker.get(b"/terminate").body == str(-signal.SIGTERM).encode()


def test_a_forked_child_cannot_speak_for_its_parent(worker: Host) -> None:
    answer = worker.get(b"/forked_write")
    child = json.loads(answer.body)
    assert child["told"].startswith("LinkClosed")
    assert not child["mapped"]
    assert not [link for link in child["links"] if "eventfd" in link or "memfd" in link]
    assert len([link for link in child["links"] if "socket" in link]) == 0


def test_programs_inherit_nothing_of_the_link(worker: Host) -> None:
    inherited = worker.get(b"/descriptors").body.decode()
    assert "eventfd" not in inherited
    assert "memfd" not in inherited
    assert "socket" not in inherited


def test_log_lines_carry_level_and_stream(worker: Host) -> None:
    answer = worker.get(b"/missing")
    assert answer.abort is not None or answer.status == 500
    logs = [f for f in worker.other if f.kind == h.LOG]
    assert (
        any(b"KeyError" in f.payload for f in logs)
        or b"KeyError" in (answer.abort or (0, ""))[1].encode()
    )
