"""Registers of before: how they are named, and how both sides are compared."""

import sys
import types
from collections.abc import Iterable

import pytest
from guado import _phases
from guado.register import Item, phase


class Old:
    def items(self) -> Iterable[Item]:
        return []

    def replace(self, items: list[Item]) -> None:
        """Forgets them."""


@pytest.fixture
def module() -> Iterable[types.ModuleType]:
    made = types.ModuleType("old_register")
    sys.modules["old_register"] = made
    yield made
    del sys.modules["old_register"]


def test_a_register_is_an_object_a_class_or_a_function_that_makes_one(
    module: types.ModuleType,
) -> None:
    module.thing, module.kind, module.make = Old(), Old, lambda: Old()  # type: ignore[attr-defined]
    for name in ("thing", "kind", "make"):
        assert isinstance(_phases.named(f"old_register:{name}"), Old)
    module.half = lambda: [1]  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="has not both items\\(\\) and replace"):
        _phases.named("old_register:half")
    with pytest.raises(AttributeError):
        _phases.named("old_register:nothing")
    assert phase() == 0


@pytest.mark.parametrize(
    ("here", "there", "found"),
    [
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 2}]}}, []),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, ["d.a.b[1].c: 2, and 3"]),
        ({"a": 1}, {}, ["d.a: 1 only here"]),
        ({}, {"a": None}, ["d.a: None only there"]),
        ({"a": 1}, {"a": 1.0}, ["d.a: 1, and 1.0"]),
        ({"a": True}, {"a": 1}, ["d.a: True, and 1"]),
        ({"a": (1,)}, {"a": [1]}, ["d.a: (1,), and [1]"]),
        ({"a": [1]}, {"a": [1, 2]}, ["d.a: [1], and [1, 2]"]),
        ({"a": "x" * 99}, {"a": ""}, [f"d.a: '{'x' * 76}..., and ''"]),
    ],
)
def test_a_difference_is_named_by_its_path(here: object, there: object, found: list[str]) -> None:
    assert list(_phases.differences(here, there, "d")) == found


def test_items_are_compared_by_kind_and_id() -> None:
    here = {("page", "p"): Item("page", "p", connection="c", data={"n": 1})}
    assert list(_phases._compare(here, here)) == []
    assert list(_phases._compare(here, {})) == ["page p: it is not there"]
    other = {("page", "p"): Item("page", "p", connection="d", fields={"x": 1}, data={"n": 2})}
    assert list(_phases._compare(here, other)) == [
        "page p: connection: 'c', and 'd'",
        "page p: fields.x: 1 only there",
        "page p: data.n: 1, and 2",
    ]


class Keeps:
    """A register that names what it keeps."""

    def __init__(self, kinds: object) -> None:
        self.kinds = kinds

    def items(self) -> list[Item]:
        return [Item("user", "ann"), Item("page", "p", connection="c")]

    def replace(self, items: list[Item]) -> None: ...


def test_a_register_keeps_the_kinds_that_it_names() -> None:
    assert _phases.kinds(Keeps(["page", "user"])) == ("user", "page")
    assert len(list(_phases._items(Keeps(("user", "page"))))) == 2
    with pytest.raises(ValueError, match="the register has page p: its kinds are user"):
        list(_phases._items(Keeps(("user",))))
    for wrong in ("user", (), ("session",)):
        with pytest.raises(TypeError, match="there are user, connection, page"):
            _phases.kinds(Keeps(wrong))
