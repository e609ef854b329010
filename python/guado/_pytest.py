"""The fixture of pytest: ``def test_it(guado_worker): …``.

Before: pytest, which finds this by the entry point of the distribution, in every run: so it
imports nothing until somebody asks for the fixture. After: guado.testing. Not here: options.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from guado.testing import Worker


@pytest.fixture
def guado_worker() -> Iterator[Worker]:
    """A worker of guado.testing, whose request is a guest's."""
    from guado import testing

    with testing.worker() as worker:
        yield worker
