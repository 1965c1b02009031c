"""URIs of resources: spellings that are one, and those that readers could take for another."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import allow, deny, message, rule

from sidecar.policy.authz import RuleSet
from sidecar.policy.spec import Action
from sidecar.policy.uri import settled_uri, settled_values

SETTLED = {
    "file:///srv/a": "file:///srv/a",
    "FILE:///srv/a": "file:///srv/a",
    "file:///srv/%61": "file:///srv/a",
    "file:///srv/a%20b": "file:///srv/a b",
    "file:///srv/a b": "file:///srv/a b",
    "file:///srv/%c3%a9": "file:///srv/\u00e9",
    "file:///srv/%C3%A9": "file:///srv/\u00e9",
    "file:///srv/a%2bb": "file:///srv/a%2Bb",
    "file:///srv/100%25": "file:///srv/100%25",
    "file:///srv/%252e%252e": "file:///srv/%252e%252e",
    "file:///srv/a..b/.c": "file:///srv/a..b/.c",
    "file:///srv/": "file:///srv/",
    "file:///": "file:///",
    "file:///{path}": "file:///{path}",
    "file:///logs/{day}{?page}": "file:///logs/{day}{?page}",
    "https://Example.COM/A": "https://example.com/A",
    "https://example.com": "https://example.com/",
    "https://example.com?q": "https://example.com?q",
    "https://example.com:8443/a?b#c": "https://example.com:8443/a?b#c",
    "https://{host}/{userId}": "https://{host}/{userId}",
    "https://127.0.0.1/": "https://127.0.0.1/",
    "https://[::1]/": "https://[::1]/",
    "note://My-Note//a": "note://My-Note//a",
    "NOTE://My-Note": "note://My-Note",
    "github://{owner}/{repo}": "github://{owner}/{repo}",
    "mailto:a@b": "mailto:a@b",
    "no scheme": "no scheme",
    "a/%2fb": "a/%2Fb",
}

UNSETTLED = [
    "file:///srv/../etc/shadow",
    "file:///srv/%2e%2e/etc/shadow",
    "file:///srv/..%2fetc/shadow",
    "file:///srv/./a",
    "file:///srv/.",
    "file:///srv/%2E/a",
    "file:////etc/shadow",
    "file:///etc//shadow",
    "file:/etc/shadow",
    "file:etc/shadow",
    "file://localhost/etc/shadow",
    "file://server/share",
    "file:\\\\\\etc\\shadow",
    "file:///etc\\shadow",
    "file:///etc%5cshadow",
    "file:///etc%2Fshadow",
    "file:///etc/shadow?x",
    "file:///etc/shadow#x",
    "file:///etc/shadow%00",
    "file:///etc/shadow%0a",
    "file:///srv/%c0%ae%c0%ae/etc",
    "file:///srv/%ff",
    "file:///srv/%",
    "file:///srv/%2%65",
    "file:///srv/%zz",
    " file:///srv/a",
    "file:///srv/a ",
    "https://u@example.com/",
    "https://u:p@example.com/",
    "https:example.com/",
    "https:/example.com/",
    "https:\\\\example.com/",
    "https://example.com\\@evil.com/",
    "https://example.com:443/",
    "https://example.com:/",
    "https://example.com:0443/",
    "http://example.com:80/",
    "https://example.com./",
    "https://ex%61mple.com:443/",
    "https://ex\u00e4mple.com/",
    "https://example.com/a/../b",
    "https://example.com/a/./b",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://127.1/",
    "http://127.0.0.01/",
    "http://[0::1]/",
    "http://[::1",
    "note:///a/../b",
    "file%3A///etc/shadow",
    "file%3a///etc/shadow:80",
]


@pytest.mark.parametrize(("uri", "wanted"), SETTLED.items())
def test_a_uri_has_one_form(uri: str, wanted: str) -> None:
    assert settled_uri(uri) == wanted
    assert settled_uri(wanted) == wanted


@pytest.mark.parametrize("uri", UNSETTLED)
def test_what_readers_could_differ_on_is_not_settled(uri: str) -> None:
    assert settled_uri(uri) is None


@pytest.mark.parametrize("uri", UNSETTLED)
def test_what_is_not_settled_is_never_allowed_and_always_denied(uri: str) -> None:
    asked = message("resources/read", {"uri": uri})
    for value in ("*", uri, "file:///*", "http*"):
        assert not RuleSet([allow(rule(resources=[value]))]).judge(asked).allowed
    denies = RuleSet([deny(rule(resources=["other:*"]))], default=Action.ALLOW)
    assert not denies.judge(asked).allowed


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("note:a", ("note:a",)),
        ("NOTE:a%62", ("note:ab",)),
        ("file:///srv/*", ("file:///srv/*",)),
        ("FILE:///my%20docs/*", ("file:///my docs/*",)),
        ("https://Example.com/*", ("https://example.com/*",)),
        ("https://Example.com", ("https://example.com/",)),
        ("file:///etc/shadow", ("file:///etc/shadow", "file:///etc/shadow/")),
        ("*.key", ("*.key", "*.key/")),
        ("*", ("*",)),
        ("file:///srv/../etc", ("file:///srv/../etc", "file:///srv/../etc/")),
        ("", ("",)),
    ],
)
def test_values_of_rules_take_the_same_form(value: str, wanted: tuple[str, ...]) -> None:
    assert settled_values([value]) == wanted


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        ("file:///etc/shadow", "file:///etc/shadow"),
        ("file:///etc/shadow", "file:///etc/shadow/"),
        ("file:///etc/shadow", "file:///etc/%73hadow"),
        ("file:///etc/shadow", "FILE:///etc/shadow"),
        ("*/shadow", "file:///etc/shadow/"),
        ("file:///my docs/*", "file:///my%20docs/a"),
        ("file:///my%20docs/*", "file:///my docs/a"),
        ("https://Internal/*", "https://internal/a"),
        ("https://internal/*", "https://INTERNAL"),
    ],
)
def test_a_rule_meets_every_spelling_of_what_it_names(value: str, uri: str) -> None:
    asked = message("resources/read", {"uri": uri})
    assert RuleSet([allow(rule(resources=[value]))]).judge(asked).allowed
    assert not RuleSet([deny(rule(resources=[value]))], default=Action.ALLOW).judge(asked).allowed


def test_an_empty_value_is_still_none() -> None:
    assert RuleSet([allow(rule(resources=[""]))]).problems


SEGMENT = st.text("abc.%2eEfF5c/\\~ \u00e9?#", max_size=6)


@given(st.sampled_from(["file:///", "FILE:///", "file:/", "file://h/"]), st.lists(SEGMENT))
def test_two_files_that_a_server_opens_as_one_are_matched_as_one(
    start: str, segments: list[str]
) -> None:
    uri = start + "/".join(segments)
    settled = settled_uri(uri)
    if settled is None:
        return
    # Servers take the path of the URI as it was sent, decoded.
    opened = unquote(urlsplit(uri).path)
    assert opened == unquote(urlsplit(settled).path)
    assert "//" not in opened
    assert not {".", ".."} & set(opened.split("/"))
    assert unquote(settled.removeprefix("file://")) == opened
