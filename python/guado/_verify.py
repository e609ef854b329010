"""From phase 6 on: says in commits how this worker has its stores, for the host to compare.

Before: boot. After: the commit queue: behind the records of a commit goes a snapshot of the
store (VERIFY, protocol/store.md), so that both sides are at the same commit. Not here: the
comparison (internal/mirror), what stores do.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from guado import _records, _state
from guado._ledger import Batch, Exchange, Taken
from guado.store import Store

# Seconds between two looks, and how much one may cost. Whoever writes stores waits for as
# long as one of them takes to be encoded.
EVERY = 1.0
MOST_STORES = 64
MOST_BYTES = 1 << 20


def start() -> None:
    state = _state.current()
    if isinstance(state, _state.WorkerState):
        threading.Thread(target=_look, args=(state,), name="guado-verify", daemon=True).start()


def _look(state: _state.WorkerState) -> None:
    """The thread that goes round all stores."""
    round_: Iterator[Store] = iter(())
    pause = threading.Event()
    with contextlib.suppress(OSError):  # the link has ended
        while not pause.wait(EVERY):
            left = MOST_BYTES
            for _ in range(MOST_STORES):
                store = next(round_, None)
                if store is None:
                    round_ = iter(state.opened())
                    break
                left -= store.bytes
                verify(state, store)
                if left < 0:
                    break
            state.link.push()


def verify(state: _state.WorkerState, store: Store) -> bool:
    """Sends how a store is, with what has been written to it and waits for its commit, as
    everybody's does who reads it. False: not now, because of somebody's transaction."""
    ledger = state.ledger
    if store._gate is not None:
        return False
    looks = Exchange("the comparison with the host")
    ledger.touch(looks, store)
    sent = []

    def seal(taken: Taken) -> None:
        batches = [_with_snapshot(one) for one in taken.batches]
        if not batches and store._gate is None:
            batches = [_with_snapshot(Batch(store, 0, 0, b""))]
        sent.append(len(batches))
        state.link.seal(taken._replace(batches=batches).encode() + _state._NO_EFFECTS)

    ledger.take(looks, seal, end=True)
    return bool(sent and sent[0])


def _with_snapshot(batch: Batch) -> Batch:
    """The record lock is held. Within somebody's transaction the store is not what is sent."""
    store = batch.store
    if store._gate is not None:
        return batch
    assert isinstance(store, Store)
    snapshot = b"".join([*store._dump(), *store.changes._dump()])
    return batch._replace(records=batch.records + 1, data=batch.data + _records.verify(snapshot))
