"""What runs beside the applications: a function on an executor, and this file as a program."""

import pathlib
import sys
import time

import guado


def work(number: int) -> list:
    store = guado.global_store()
    sum = store.add("beside", number).result()
    guado.dbevent("job", "insert", number).result()
    return [sum, store["beside"], store.get("from worker")]


if __name__ == "__main__":
    while not pathlib.Path(sys.argv[2]).exists():
        time.sleep(0.02)
    store = guado.global_store()
    store["program", "a.b"] = {"list": [1, (2, 3)]}
    found = [store["program"], "x" in store, store.get("from worker"), store.keys()]
    try:
        store.on_change(None, print)
    except guado.HostError as error:
        found.append(error.code)
    guado.dbevent("job", "delete", [1, 2], reason="program").result()
    pathlib.Path(sys.argv[1]).write_text(repr(found))
