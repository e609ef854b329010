"""Many exchanges at once, with clients that leave, hurry and dawdle at random.

The host of the tests checks every frame (nothing after the last one, one head at most);
here every exchange must come to its end and the worker must be as before.
"""

from __future__ import annotations

import random

import pytest
from asgi_host import DEADLINE, GONE, HALF_CLOSED, STOPPING, TAKES_TRAILERS, Answer, Worker

pytest_plugins = ["asgi_fixtures"]

PATHS = [
    "/hello",
    "/echo",
    "/messages",
    "/buffers",
    "/big",
    "/flood",
    "/hints",
    "/trailers",
    "/no-trailers",
    "/raise",
    "/raise-late",
    "/raise-behind",
    "/return-late",
    "/sleep-briefly",
    "/leaves-quietly",
    "/leaves-by-exception",
    "/after-response",
    "/two-receivers",
    "/forever",
    "/forever-stream",
    "/scope",
]
NEVER_ENDING = {
    "/flood",
    "/forever",
    "/forever-stream",
    "/leaves-quietly",
    "/leaves-by-exception",
    "/two-receivers",
}
BLIND = {"/forever", "/forever-stream"}  # never look whether their client is there
CLOSED = [GONE, DEADLINE, STOPPING]


class Client:
    """One exchange and what its client does next, decided by chance."""

    def __init__(self, worker: Worker, chance: random.Random) -> None:
        self.worker, self.chance = worker, chance
        self.path = chance.choice(PATHS)
        self.sending = chance.random() < 0.4
        self.left = False
        self.allowed = 65536
        flags = TAKES_TRAILERS if chance.random() < 0.5 else 0
        self.answer: Answer = worker.request(
            chance.choice(["GET", "POST", "HEAD"]),
            self.path,
            body=b"x" * chance.choice([0, 5, 40000]),
            complete=not self.sending,
            flags=flags,
        )

    def step(self) -> None:
        deed = self.chance.random()
        if self.sending and deed < 0.5:
            data = bytes(self.chance.randrange(1, 20000))
            if len(data) <= self.allowed + self.answer.credit:
                self.allowed -= len(data)
                self.sending = self.chance.random() < 0.7
                cut = not self.sending and self.chance.random() < 0.2
                self.worker.body(self.answer, data, end=not self.sending, cut=cut)
        elif deed < 0.6 and not self.left:
            self.leave(self.chance.choice([HALF_CLOSED, *CLOSED]))
        elif deed < 0.8:
            self.worker.credit(self.answer, self.chance.randrange(1, 200000))

    def leave(self, why: int) -> None:
        """After a cancel the host grants credit without end and ends the body."""
        self.left = why in CLOSED
        self.worker.cancel(self.answer, why)
        if self.left:
            self.worker.credit(self.answer, 1 << 30)

    def finish(self) -> None:
        if self.answer.over:
            return
        if self.sending:
            self.sending = False
            self.worker.body(self.answer, b"", end=True)
        self.worker.credit(self.answer, 1 << 30)
        if not self.left and self.path in NEVER_ENDING:
            self.leave(GONE)


@pytest.mark.parametrize("transport", ["shm", "socket"])
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_clients_do_every_exchange_ends_and_the_worker_stays_whole(
    loop_env: dict[str, str], transport: str, seed: int
) -> None:
    chance = random.Random(seed)
    with Worker(
        "asgi_apps:app", env=loop_env, transport=transport, automatic_credit=False
    ) as worker:
        blind: list[Client] = []
        for _ in range(12):
            clients = [Client(worker, chance) for _ in range(60)]
            for _ in range(6):
                for client in clients:
                    if not client.answer.over:
                        client.step()
                worker.pump(0)
            for client in clients:
                client.finish()
            blind += [client for client in clients if client.path in BLIND]
            worker.until(
                lambda clients=clients: all(c.answer.over or c.path in BLIND for c in clients)
            )
        worker.automatic_credit = True
        for _ in range(20):
            assert worker.get("/hello").body == b"hello"
        assert worker.stop(200) == 0
        assert all(client.answer.over for client in blind)
