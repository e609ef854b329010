"""Events about database tables: who shows their rows hears of committed changes.

Before: the code that has committed, in an application, an executor or a program. After: the
host, which gives each table's changes as one event to the pages that have subscribed it
(:meth:`guado.PageHandle.subscribe_table`) and to functions (``@guado.on("dbevent.invoice")``).
Not here: finding out what a transaction changed; adapters do that for their frameworks.

    with guado.dbevents() as changes:             # one transaction
        invoice.save()
        changes.add("invoice", "update", invoice.id, {"total": str(invoice.total)})
        connection.commit()

Tell of what is committed, never before: who hears of a change reads the database.
"""

from __future__ import annotations

from typing import Any

from guado import _host, _json, _request

ACTIONS = ("insert", "update", "delete")


def _change(table: str, action: str, keys: Any, rows: Any, reason: str | None) -> bytes:
    if not isinstance(table, str) or not table:
        raise TypeError(f"a table's name is text, not {table!r}")
    if action not in ACTIONS:
        raise ValueError(f"the action is insert, update or delete, not {action!r}")
    parts = [b'"table":' + _json.encode(table), b'"action":' + _json.encode(action)]
    if keys is not None:
        many = isinstance(keys, list)
        parts.append(b'"keys":' + _json.encode(keys if many else [keys], "keys"))
        if rows is not None:
            rows = rows if many else [rows]
            if len(rows) != len(keys if many else rows):
                raise ValueError(f"{len(keys)} keys with {len(rows)} rows: give each key its row")
            parts.append(b'"rows":' + _json.encode(rows, "rows"))
    elif rows is not None:
        raise ValueError("rows need the keys that they belong to")
    if reason is not None:
        parts.append(b'"reason":' + _json.encode(reason, "reason"))
    current = _request.current()
    if current is not None and current.page:
        parts.append(b'"page":' + _json.encode(current.page))
    return b"{" + b",".join(parts) + b"}"


def _send(changes: list[bytes]) -> _host.Reply[None]:
    reply: _host.Reply[None] = _host.Reply()
    _host.ask("dbevent", b'{"changes":[%s]}' % b",".join(changes), reply, _host.nothing)
    return reply


def dbevent(
    table: str,
    action: str = "update",
    keys: Any = None,
    rows: Any = None,
    *,
    reason: str | None = None,
) -> _host.Reply[None]:
    """Tells that rows of `table` were inserted, updated or deleted, and that is committed.

    `keys`: the row's key, or a list of keys; a key of several columns is a tuple. None: the
    table has changed, nobody says where. `rows`: what those who hear it are to know of the row
    (of each, in a list); anything that JSON has. The event on ``dbevent.TABLE`` has
    ``{"table", "changes": [{"action", "key", "row"?, "reason"?, "page"?}]}``; `page` is the one
    whose request this is. With too many changes for one event it has ``"all": true`` instead:
    read again what is shown.
    """
    return _send([_change(table, action, keys, rows, reason)])


class dbevents:
    """Collects the changes of one transaction: they are sent together when the block ends,
    each table's in one event, and not at all when it ends by an exception. `result`: the
    reply, once they are sent."""

    def __init__(self) -> None:
        self._changes: list[bytes] = []
        self.result: _host.Reply[None] | None = None

    def add(
        self,
        table: str,
        action: str = "update",
        keys: Any = None,
        rows: Any = None,
        *,
        reason: str | None = None,
    ) -> None:
        """As :func:`dbevent`, later."""
        self._changes.append(_change(table, action, keys, rows, reason))

    def discard(self) -> None:
        """Forgets what was added: the transaction was rolled back."""
        self._changes.clear()

    def send(self) -> _host.Reply[None] | None:
        """Sends what was added; None: nothing was. Whoever has no block calls it."""
        if self._changes:
            self.result = _send(self._changes)
            self._changes = []
        return self.result

    def __enter__(self) -> dbevents:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.send()
        else:
            self.discard()


def topic_of(table: str) -> str:
    """The topic of events about a table."""
    if not isinstance(table, str) or not table:
        raise TypeError(f"a table's name is text, not {table!r}")
    if any(word in ("", "*", ">") for word in table.split(".")):
        raise ValueError(f"{table!r} is no name of a table: words, with dots between them")
    return "dbevent." + table
