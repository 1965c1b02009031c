"""The table of methods against the official SDK's own lists of them."""

from __future__ import annotations

import pytest

from sidecar.mcp.methods import METHODS, is_session

MODERN = "2026-07-28"


def spoken(version_is_modern: bool) -> set[str]:
    from mcp_types import methods as official  # takes seconds, also in who only collects tests

    tables = (official.CLIENT_REQUESTS, official.SERVER_REQUESTS)
    return {
        method
        for table in tables
        for method, version in table
        if (version == MODERN) is version_is_modern
    }


def test_every_method_of_the_official_sdk_is_in_the_table() -> None:
    assert spoken(True) <= {name for name, method in METHODS.items() if method.modern}
    assert spoken(False) <= {name for name, method in METHODS.items() if method.legacy}


def test_a_method_of_the_core_stands_in_the_eras_that_have_it() -> None:
    for name in spoken(True) ^ spoken(False):
        assert METHODS[name].modern is (name in spoken(True))
        assert METHODS[name].legacy is (name in spoken(False))


@pytest.mark.parametrize(
    "method",
    [
        *("initialize", "ping", "server/discover", "tools/list", "prompts/list"),
        *("resources/list", "resources/templates/list", "tasks/list"),
        *("notifications/initialized", "notifications/cancelled", "notifications/anything"),
    ],
)
def test_what_a_session_cannot_do_without_is_session_traffic(method: str) -> None:
    assert is_session(method)


@pytest.mark.parametrize(
    "method",
    [
        *("tools/call", "prompts/get", "resources/read", "resources/subscribe", "tasks/get"),
        *("completion/complete", "subscriptions/listen", "tasks/result", "logging/setLevel"),
        *("sampling/createMessage", "roots/list", "custom/list", "Ping", "notifications", ""),
        "xnotifications/a",
    ],
)
def test_what_uses_something_is_no_session_traffic(method: str) -> None:
    assert not is_session(method)


def test_session_traffic_acts_on_nothing() -> None:
    assert all(method.subject == "nothing" for method in METHODS.values() if method.session)
