"""After each fault, nothing of it may be left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .world import World


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ask the `world` of a test, if it has one, whether all is as it was."""
    yield
    if "world" in request.fixturenames:
        found: World = request.getfixturevalue("world")
        found.expect_rest()
