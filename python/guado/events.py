"""Events inside one host: publish them, and hear them in functions.

Before: any code of an application, an executor or a program publishes. After: the host
gives each event to the pages that have subscribed (:meth:`guado.PageHandle.subscribe`) and
to one worker of every application whose functions listen. Not here: pages' subscriptions.

A topic is words separated by dots: ``invoice.paid``. In a subscription ``*`` is any one
word, and ``>`` at the end any one or more: ``invoice.*``, ``user.>``. Events that one
process publishes come in that order.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from guado import _declared, _host, _json

F = TypeVar("F", bound=Callable[[str, Any], Any])


class Published(NamedTuple):
    """Who hears an event."""

    pages: int
    workers: int  # applications whose functions hear it


class Publication(_host.Reply[Published]):
    """An event on its way: ``await`` it, call ``result()``, or leave it."""


def publish(topic: str, data: Any = None) -> Publication:
    """Tells all who hear `topic`. `data` is anything that JSON has."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic is text, not {topic!r}")
    _check(topic, False)
    publication = Publication()
    body = b'{"topic":%s,"data":%s}' % (_json.encode(topic, "topic"), _json.encode(data))
    _host.ask("publish", body, publication, _published)
    return publication


def _published(answer: dict[str, Any]) -> Published:
    return Published(answer["pages"], answer["workers"])


def on(topic: str) -> Callable[[F], F]:
    """Decorates a function ``f(topic, data)`` that hears events::

        @guado.on("invoice.*")
        def archive(topic, data): ...

    Each event reaches it once, in one worker of the application; events one after the
    other. Define it at the top of a module that the application imports. It may be
    ``async def`` in an ASGI application. Outside a worker it is never called.
    """
    if not isinstance(topic, str):
        raise TypeError(f'@guado.on needs a topic: @guado.on("invoice.*"), not {topic!r}')
    check_pattern(topic)

    def decorate(function: F) -> F:
        _declared.add_listener(topic, function)
        return function

    return decorate


def check_pattern(topic: str) -> None:
    """ValueError for what no subscription can be."""
    _check(topic, True)


# As the host has them (internal/bus/topic.go).
_MOST_BYTES = 256
_MOST_WORDS = 16
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


def _check(topic: str, pattern: bool) -> None:
    """ValueError that says what is wrong with a topic, or with a pattern of topics."""
    words = topic.split(".")
    plain = words
    if pattern:
        plain = [word for word in words[:-1] if word != "*"]
        plain += [word for word in words[-1:] if word not in ("*", ">")]
    why = ""
    if not all(words):
        why = "it is words separated by dots"
    elif any("*" in word or ">" in word for word in plain):
        why = "wildcards are for subscriptions"
        if pattern:
            why = "* stands for one whole word, > at the end for one or more"
    elif _BLANK.search(topic):
        why = "it has white space or control characters"
    elif len(words) > _MOST_WORDS:
        why = f"it has more than {_MOST_WORDS} words"
    elif len(topic.encode()) > _MOST_BYTES:
        why = f"it is longer than {_MOST_BYTES} bytes"
    if why:
        raise ValueError(f"{topic[:80]!r} is no topic: {why}")


def matches(pattern: str, topic: str) -> bool:
    """Whether a subscription to `pattern` hears `topic`."""
    wanted, words = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(words) <= len(wanted):
            return False
        words = words[: len(wanted)]
    return len(wanted) == len(words) and all(
        a in ("*", b) for a, b in zip(wanted, words, strict=True)
    )
