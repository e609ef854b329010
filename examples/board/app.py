"""A shared board: every tab of every browser sees every move at once.

The notes are in SQLite, so that nothing depends on this process: kill it, or stop the
server and start it again, and the tabs go on where they were.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from pathlib import Path
from typing import Any, ClassVar

import guado
from flask import Flask, Response, abort, request

HERE = Path(__file__).parent
COLOURS = ("yellow", "rose", "blue", "green", "violet")
MOST_NOTES, MOST_TEXT = 200, 400

app = Flask(__name__)


class Store:
    """The notes of all rooms. Whoever changes one publishes the change in the same breath,
    so that all tabs hear of changes in the order in which they were made."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.executescript("""
            PRAGMA journal_mode = wal; PRAGMA synchronous = normal; PRAGMA busy_timeout = 5000;
            CREATE TABLE IF NOT EXISTS rooms (room TEXT PRIMARY KEY, rev INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS notes (
                id INTEGER PRIMARY KEY AUTOINCREMENT, room TEXT NOT NULL, rev INTEGER NOT NULL,
                x REAL NOT NULL, y REAL NOT NULL, colour TEXT NOT NULL, text TEXT NOT NULL);
            CREATE INDEX IF NOT EXISTS notes_of_room ON notes (room);
        """)

    def all(self, room: str) -> dict[str, Any]:
        """The whole board, and the number of its last change."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, rev, x, y, colour, text FROM notes WHERE room = ?", (room,)
            ).fetchall()
            last = self._db.execute("SELECT rev FROM rooms WHERE room = ?", (room,)).fetchone()
            return {"rev": last["rev"] if last else 0, "notes": [dict(row) for row in rows]}

    def add(self, room: str, note: dict[str, Any]) -> int:
        """Puts a note on the board and gives its number."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            count = self._db.execute("SELECT count(*) FROM notes WHERE room = ?", (room,))
            if count.fetchone()[0] >= MOST_NOTES:
                raise guado.PageError("full", "There is no room for another note here.")
            rev = self._next(room)
            added = self._db.execute(
                "INSERT INTO notes (room, rev, x, y, colour, text) VALUES (?, ?, ?, ?, ?, ?)",
                (room, rev, note["x"], note["y"], note["colour"], note["text"]),
            )
            note = {**note, "id": added.lastrowid, "rev": rev}
            self._db.commit()
            guado.publish(topic(room), {"note": note})
            return int(note["id"])

    def change(self, room: str, number: int, what: dict[str, Any], by: str) -> None:
        """Changes a note; of two who change the same thing the later one wins."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            what = {**what, "rev": self._next(room)}
            columns = ", ".join(f"{key} = ?" for key in what)  # names of ours alone
            done = self._db.execute(
                f"UPDATE notes SET {columns} WHERE room = ? AND id = ?",
                (*what.values(), room, number),
            )
            if not done.rowcount:
                raise guado.PageError("gone", "Somebody has taken that note away.")
            self._db.commit()
            guado.publish(topic(room), {"note": {"id": number, **what}, "by": by})

    def remove(self, room: str, number: int) -> None:
        """Takes a note away; twice is no harm."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            rev = self._next(room)
            self._db.execute("DELETE FROM notes WHERE room = ? AND id = ?", (room, number))
            self._db.commit()
            guado.publish(topic(room), {"gone": number, "rev": rev})

    def _next(self, room: str) -> int:
        found = self._db.execute(
            "INSERT INTO rooms VALUES (?, 1) ON CONFLICT DO UPDATE SET rev = rev + 1 RETURNING rev",
            (room,),
        )
        return int(found.fetchone()["rev"])


store = Store(Path(os.environ.get("BOARD_DATA", HERE / "data")) / "board.sqlite3")


def topic(room: str) -> str:
    """Where the changes of a room are published."""
    return f"board.{room}"


class Board(guado.Page):
    """A tab that has the board open. What it sees comes as events of its room: they go to
    the browser as they are, because this class has no on_event."""

    # Who is here. It is as long-lived as this process: a new one hears it from the tabs.
    people: ClassVar[dict[str, dict[str, Any]]] = {}

    def on_open(self, *, reopened: bool = False) -> None:
        """A tab has come, or this process has taken the place of one that died."""
        self.room = checked_room(str(self.args.get("room", "")))
        self.me = self.id[:8]  # what others know this tab by
        if not reopened:
            self.subscribe(topic(self.room))
        self.introduce(self.args)
        if not reopened:
            self.push(self.on_snapshot())

    def on_snapshot(self) -> dict[str, Any]:
        """All there is, for a tab that has missed too much."""
        here = [who for who in self.people.values() if who["room"] == self.room]
        return {"you": self.me, "people": here, **store.all(self.room)}

    def on_message(self, data: dict[str, Any]) -> Any:
        """Does what a tab asks for."""
        match data:
            case {"do": "point", "x": x, "y": y}:
                guado.publish(topic(self.room), {"point": [clamp(x), clamp(y)], "by": self.me})
            case {"do": "drag", "id": int(number), "x": x, "y": y, "rev": int(rev)}:
                drag = [number, clamp(x), clamp(y), rev]
                guado.publish(topic(self.room), {"drag": drag, "by": self.me})
            case {"do": "move", "id": int(number), "x": x, "y": y}:
                store.change(self.room, number, {"x": clamp(x), "y": clamp(y)}, self.me)
            case {"do": "write", "id": int(number), "text": str(text)}:
                store.change(self.room, number, {"text": text[:MOST_TEXT]}, self.me)
            case {"do": "paint", "id": int(number), "colour": colour} if colour in COLOURS:
                store.change(self.room, number, {"colour": colour}, self.me)
            case {"do": "add", "x": x, "y": y, "colour": colour} if colour in COLOURS:
                note = {"x": clamp(x), "y": clamp(y), "colour": colour, "text": ""}
                return store.add(self.room, note)
            case {"do": "remove", "id": int(number)}:
                store.remove(self.room, number)
            case {"do": "here"}:
                self.introduce(data)
            case _:
                raise guado.PageError("unknown", "The board does not know that move.")
        return None

    def on_close(self, why: str) -> None:
        """The tab was closed, or has not come back."""
        if self.people.pop(self.me, None):
            guado.publish(topic(self.room), {"left": self.me})

    def introduce(self, data: dict[str, Any]) -> None:
        """Tells the others who this is."""
        name = " ".join(str(data.get("name", "")).split())[:24] or "Somebody"
        hue = data.get("hue")
        hue = hue % 360 if isinstance(hue, int) else 0
        who = {"id": self.me, "name": name, "hue": hue, "room": self.room}
        if self.people.get(self.me) != who:
            self.people[self.me] = who
            guado.publish(topic(self.room), {"person": who})


def clamp(value: object) -> float:
    """A place on the board: a part of its width or height."""
    if not isinstance(value, (int, float)):
        raise guado.PageError("unknown", "A place is a number.")
    return round(min(max(float(value), 0.0), 1.0), 4)


def checked_room(name: str) -> str:
    """The name of a room, if it is one."""
    if not re.fullmatch(r"[a-z0-9-]{1,32}", name):
        raise guado.PageError("no_room", "A room has small letters, digits and dashes.")
    return name


@app.get("/")
@app.get("/<room>")
def board(room: str = "lobby") -> Response:
    """The page: one document for all rooms."""
    if not re.fullmatch(r"[a-z0-9-]{1,32}", room):
        abort(404)
    text = (HERE / "board.html").read_text(encoding="utf-8")
    page = Response(text.replace('data-room="lobby"', f'data-room="{room}"'), mimetype="text/html")
    page.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline';"
        " img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    return page


@app.post("/<room>/notes")
def post_note(room: str) -> tuple[dict[str, int], int]:
    """An ordinary view: what it adds is on every board at once."""
    text = request.get_data(as_text=True).strip()
    if not re.fullmatch(r"[a-z0-9-]{1,32}", room) or not text or len(text) > MOST_TEXT:
        abort(400)
    try:
        number = store.add(room, {"x": 0.42, "y": 0.4, "colour": "blue", "text": text})
    except guado.PageError:
        abort(409)
    return {"id": number}, 201
