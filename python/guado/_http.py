"""Asks the host over its push socket: for programs beside the workers, and for shells.

Before: _host, in a process that is no worker. After: the host, by HTTP/1.1 on the Unix
socket that GUADO_PUSH names (unix:/path), with the token in GUADO_PUSH_TOKEN. Not here:
workers and executors, which have the link.

What is asked is sent by threads of its own, one after the other; those that wait for a
client, beside. They are joined at the end of the interpreter, so that nothing is lost.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import select
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from guado.errors import HostError

if TYPE_CHECKING:
    from guado._calls import Settle
    from guado._futures import Future

# What may be under way; who asks faster waits.
MOST_CALLS = 1024
# For the host to answer what does not wait for a client.
PATIENCE = 30.0
# How long a connection is kept that nobody uses: much less than the host keeps it.
IDLE = 5.0
# Calls that wait for clients at once.
WAITING = 64


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("guado", timeout=PATIENCE)
        self.path = path
        self.used = 0.0

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(self.path)
        except BaseException:
            made.close()
            raise
        self.sock = made

    def stale(self) -> bool:
        """The host has closed it while it was idle, or might soon: what is sent on it then
        would be lost, and nobody could say whether the host has it."""
        if self.sock is None:
            return False
        idle = time.monotonic() - self.used > IDLE
        return idle or bool(select.select([self.sock], [], [], 0)[0])


class Program:
    """A process that is no worker."""

    def __init__(self, path: str, token: str) -> None:
        self.path = path
        self.token = token
        self.pid = os.getpid()
        self.room = threading.BoundedSemaphore(MOST_CALLS)
        self.threads = concurrent.futures.ThreadPoolExecutor(1, "guado-push")
        self.waiting = concurrent.futures.ThreadPoolExecutor(WAITING, "guado-push-wait")
        self.kept = threading.local()  # one connection for each thread
        self.made: list[_Connection] = []  # all of them
        # What is under way holds the program: when it goes, nobody uses them any more.
        weakref.finalize(self, _close, self.made)

    def start(
        self,
        verb: str,
        data: bytes,
        future: Future[Any],
        settle: Settle,
        milliseconds: int,
        waits: bool,
    ) -> None:
        patience = None if waits and not milliseconds else PATIENCE + milliseconds / 1000

        def work() -> None:
            try:
                answer = self.post(verb, data, patience)
            except (OSError, http.client.HTTPException) as error:
                reason = f"no answer from the host at {self.path}: {error!r}"
                answer = 0, "no_host", reason.encode()
            finally:
                self.room.release()
            settle(future, *answer)

        def forget() -> bool:
            if not queued.cancel():
                return True
            self.room.release()
            return True

        self.room.acquire()
        try:
            queued = (self.waiting if waits else self.threads).submit(work)
        except BaseException:
            self.room.release()
            raise
        future._forget = forget

    def post(self, verb: str, data: bytes, patience: float | None) -> tuple[int, str, bytes]:
        """Status, code and data, as REPLY has them."""
        connection: _Connection | None = getattr(self.kept, "connection", None)
        if connection is None:
            connection = self.kept.connection = _Connection(self.path)
            self.made.append(connection)
        elif connection.stale():
            connection.close()  # and opened again by the request
        connection.timeout = patience
        if connection.sock is not None:
            connection.sock.settimeout(patience)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        try:
            connection.request("POST", f"/v1/{verb}", data, headers)
            response = connection.getresponse()
            body = response.read()
            connection.used = time.monotonic()
        except BaseException:
            connection.close()
            raise
        if response.status == 200:
            return 200, "", body
        return response.status, *_reason(response.status, body)


def _close(made: list[_Connection]) -> None:
    for connection in made:
        connection.close()


def _reason(status: int, body: bytes) -> tuple[str, bytes]:
    """The code and the words of an answer that is none."""
    try:
        error = json.loads(body)["error"]
        return str(error["code"]), str(error.get("message", "")).encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"http_{status}", body.strip() or f"the host answered {status}".encode()


_lock = threading.Lock()  # guards _shared
_shared: Program | None = None


def shared() -> Program:
    """The way of this process to its host. HostError (``no_host``) when there is none."""
    global _lock, _shared
    program = _shared
    if program is not None and program.pid != os.getpid():  # the threads stayed with the parent
        _lock, program = threading.Lock(), None
    if program is None:
        address, token = os.environ.get("GUADO_PUSH", ""), os.environ.get("GUADO_PUSH_TOKEN", "")
        path = address.removeprefix("unix:")
        if not path or path == address:
            raise HostError(
                "this process has no host: GUADO_PUSH must be unix:/path/of/the/push/socket, as "
                "Guado gives it to its programs from server.phase = 3 on"
                + (f", not {address!r}" if address else ""),
                "no_host",
            )
        with _lock:
            if _shared is None or _shared.pid != os.getpid():
                _shared = Program(path, token)
            program = _shared
    return program
