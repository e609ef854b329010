"""Pages of a browser that show all that happens to them, and a class that answers."""

from collections.abc import Callable, Iterable
from typing import Any

import guado

PAGE = b"""<!doctype html><meta charset="utf-8"><title>pushed</title><script type="module">
import { open } from "/_guado/client.js";
window.seen = []; window.snapshots = []; window.states = []; window.replies = [];
window.page = open("Tab", { from: location.search });
page.onMessage((m) => "i" in m && seen.push(m.i));
page.onSnapshot((s) => snapshots.push(s));
page.onState((s) => states.push(s));
</script>"""


class Tab(guado.Page):
    """A tab. Its objects are lost with their process, and made anew."""

    def on_open(self, *, reopened: bool = False) -> None:
        self.heard = 0
        print("opened", self.id, "again" if reopened else "first", flush=True)

    def on_message(self, data: Any) -> Any:
        self.heard += 1
        return {"heard": self.heard, "data": data}

    def on_snapshot(self) -> Any:
        return {"snapshot of": self.id}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/html")])
    return [PAGE]
