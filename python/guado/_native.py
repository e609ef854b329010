"""The fast half of stores: csrc/store_*.c, or the same in Python where there is no extension.

Before: _values, _tracked, _locks, _ledger and _writes build on it. After: nothing.
Not here: what is rare or says what is wrong; that is in those modules, once for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "DictBase",
    "ExchangeBase",
    "HeldBase",
    "LedgerBase",
    "ListBase",
    "LockBase",
    "LocksBase",
    "Mutex",
    "RunningBase",
    "Slot",
    "StoreBase",
    "store_encode",
    "store_encode_state",
    "store_read",
    "store_setup",
]

if TYPE_CHECKING:
    from guado._pure import (
        DictBase,
        ExchangeBase,
        HeldBase,
        LedgerBase,
        ListBase,
        LockBase,
        LocksBase,
        Mutex,
        RunningBase,
        Slot,
        StoreBase,
        store_encode,
        store_encode_state,
        store_read,
        store_setup,
    )
else:
    try:
        from guado._core import (
            DictBase,
            ExchangeBase,
            HeldBase,
            LedgerBase,
            ListBase,
            LockBase,
            LocksBase,
            Mutex,
            RunningBase,
            Slot,
            StoreBase,
            store_encode,
            store_encode_state,
            store_read,
            store_setup,
        )
    except ImportError:  # the wheel without the extension
        from guado._pure import (
            DictBase,
            ExchangeBase,
            HeldBase,
            LedgerBase,
            ListBase,
            LockBase,
            LocksBase,
            Mutex,
            RunningBase,
            Slot,
            StoreBase,
            store_encode,
            store_encode_state,
            store_read,
            store_setup,
        )
