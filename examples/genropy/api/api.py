"""What is new beside the site: a FastAPI application that reads the site's database."""

import sqlite3
from pathlib import Path

from fastapi import FastAPI

DATA = Path(__file__).parent.parent / "site/projects/local/instances/gnrdevelop/data"

app = FastAPI(title="Beside a GenroPy site")


@app.get("/tables")
def tables() -> dict[str, list[str]]:
    """The tables of the site, by package: GenroPy keeps each package in a file of its own."""
    found: dict[str, list[str]] = {}
    for file in sorted(DATA.glob("*.db")):
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
            rows = db.execute("select name from sqlite_master where type = 'table' order by name")
            found[file.stem] = [name for (name,) in rows]
    return found
