"""Pages of other origins may not have a browser call."""

from __future__ import annotations

import pytest
from support.policies import allow, call, rule

from sidecar.policy.authz import Mesh, RuleSet
from sidecar.policy.decide import Policy, decide
from sidecar.policy.origin import ANY, Origins, canonical, origins
from sidecar.policy.verdict import Permit, Reason, Refusal

APP = "https://app.example"


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "http://localhost",
            "http://localhost:3000",
            "https://localhost:8443",
            "HTTP://LocalHost",
        ),
        *("http://127.0.0.1", "http://127.0.0.1:9", "http://127.9.9.9:80", "http://[::1]:8080"),
        *("http://10.0.0.5", "https://10.0.0.5:8443"),
    ],
)
def test_pages_of_this_machine_may_call(origin: str) -> None:
    assert origins([], "10.0.0.5").admit(origin)


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example.com", "http://evil.example.com:8080", "https://app.example"),
        *("null", "", "?", "*", "localhost", "//localhost", "http://", "http://localhost/"),
        *("http://localhost:", "http://localhost:x", "http://localhost:123456", "http://[::1"),
        *("http://localhost.evil.example", "http://localhost@evil.example", "http://localhost,a"),
        *("http://evil.example#localhost", "http://127.0.0.1.nip.example", "http://0177.0.0.1"),
        *("http://127.1", "http://2130706433", "http://0.0.0.0", "http://[::]", "http://10.0.0.6"),
        *("http://localhost http://evil.example", "file://localhost", "chrome-extension://a"),
        *("http://localhost\n", " http://localhost", "http://lоcalhost", "http://ocalhost"),
    ],
)
@pytest.mark.parametrize("listen_ip", ["10.0.0.5", "0.0.0.0", "::", "127.0.0.1"])
def test_all_other_pages_may_not(origin: str, listen_ip: str) -> None:
    assert not origins([], listen_ip).admit(origin)


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        (APP, True),
        ("HTTPS://APP.example", True),
        ("https://app.example:443", True),
        ("https://app.example:8443", False),
        ("http://app.example", False),
        ("https://app.example.evil.example", False),
        ("https://sub.app.example", False),
        ("http://localhost", False),  # what is written is the whole list
        ("http://dev.example:3000", True),
        ("null", False),
    ],
)
def test_what_is_written_is_what_may_call(origin: str, admitted: bool) -> None:
    assert origins([APP, "http://dev.example:3000"], "127.0.0.1").admit(origin) is admitted


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "?", "anything"])
def test_a_star_lets_every_page_call(origin: str) -> None:
    assert origins([ANY], "").admit(origin)


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("*", "*"),
        ("https://App.Example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_spelled_as_browsers_do(written: str, origin: str) -> None:
    assert canonical(written) == origin


@pytest.mark.parametrize(
    "written",
    ["", "null", "app.example", "https://*.example", "https://a/", "https://a/b", "ws://a"],
)
def test_what_is_no_origin_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="a scheme, a host"):
        canonical(written)


def verdict(origin: str, allowed: Origins) -> Permit | Refusal:
    rules = RuleSet([allow(rule(paths=["/mcp"]))], Mesh())
    asked = call("POST", "/mcp", origin=origin)
    return decide(asked, Policy(rules, origins=allowed), 0.0)


def test_who_names_no_origin_is_asked_nothing() -> None:
    assert isinstance(verdict("", origins([APP], "")), Permit)


def test_a_page_that_may_call_is_still_asked_by_rules() -> None:
    assert isinstance(verdict(APP, origins([APP], "")), Permit)
    refused = decide(
        call("POST", "/other", origin=APP),
        Policy(RuleSet([allow(rule(paths=["/mcp"]))], Mesh()), origins=origins([APP], "")),
        0.0,
    )
    assert isinstance(refused, Refusal)


def test_a_page_that_may_not_is_refused_whatever_rules_say() -> None:
    refused = verdict("http://evil.example", origins([], "127.0.0.1"))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.status, refused.rule) == (Reason.DENIED, 403, None)
    assert "evil.example" in refused.detail
    assert "evil.example" not in refused.message
