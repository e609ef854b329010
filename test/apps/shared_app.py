"""Shares stores with the clients of pages, and writes them, as a test tells it to; as a WSGI and
as an ASGI application."""

from typing import Any

import guado
import stores_app


def store(of: str) -> Any:
    """Whose store is shared; the page's own needs no name."""
    return None if of == "page" else stores_app.store(of)


def share(data: dict[str, Any]) -> None:
    """As a test wants it."""
    for path, more in data.items():
        of = store(more.pop("of", "page"))
        if more.pop("off", False):
            guado.page().unshare(path, store=of)
        else:
            guado.page().share(path, store=of, **more)


class Form(guado.Page):
    """Its client writes fields, of which it refuses some."""

    def on_open(self, *, reopened: bool = False) -> None:
        """What it shares lasts."""
        if not reopened:
            self.store["form"] = {"name": "", "size": 1}
            self.share("form", write=True)

    def on_write(self, changes: list[guado.ClientWrite]) -> None:
        """Before it is written."""
        for one in changes:
            if one.value == "refused":
                raise guado.PageError("not_that", f"{'.'.join(one.path)} cannot be that")
            if one.value == "counted":
                self.store["form.writes"] = self.store.get("form.writes", 0) + 1

    def on_message(self, data: Any) -> Any:
        """As a request."""
        return stores_app.act(data)


stores_app.VERBS["share"] = share
stores_app.VERBS["delete"] = lambda path: guado.page().store.pop(path)
stores_app.VERBS["append"] = lambda what: [
    guado.page().store[path].extend(items) for path, items in what.items()
]
stores_app.VERBS["tell"] = lambda what: guado.page().store.set(
    what["path"], what["value"], what.get("reason"), what.get("attributes")
)
app: Any = stores_app.app
