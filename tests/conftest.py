"""What holds for all tests: a busy machine fails none of them, and none waits for no reason."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings
from support import warm

settings.register_profile("sidecar", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sidecar")

# Begun first, in this order: what waits leaves room for what computes.
WAITING = (
    "tests/e2e/test_conformance",  # for a suite that is fetched
    "tests/e2e/test_renewal",  # for certificates to age
    "tests/e2e/test_revocation",
    "tests/live/",  # for a Debian that is fetched, and for machines to boot
    "tests/e2e/",
    "tests/test_three_machines.py",
)


def pytest_configure() -> None:
    """Keep what is compiled, wherever it may be: hundreds of processes would each compile it."""
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage neither while tests are collected, nor ever among what that leaves."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: one that began last would be waited for by itself."""
    items.sort(key=_turn)


def pytest_sessionfinish() -> None:
    """End what the tests' daemons were forked from."""
    warm.stop()


def _turn(item: pytest.Item) -> int:
    return next(
        (turn for turn, start in enumerate(WAITING) if item.nodeid.startswith(start)), len(WAITING)
    )
