"""Prints what a gunicorn configuration file sets, as JSON: each name with a list of words."""

import json
import os
import runpy
import sys


def words(value):
    """The value as a list of words; a function is its name in angle brackets."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if callable(value):
        return ["<" + getattr(value, "__name__", "function") + "()>"]
    return [str(value)]


sys.path.insert(0, os.getcwd())
found = runpy.run_path(sys.argv[1])
plain = (str, int, float, list, tuple, type(None))
print(
    json.dumps(
        {
            name: words(value)
            for name, value in found.items()
            if not name.startswith("_") and (isinstance(value, plain) or callable(value))
        }
    )
)
