"""No spelling of a path or a header turns a denial into a permit, where the server reads it
as the mode says servers do."""

from __future__ import annotations

import re
from posixpath import normpath
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from support.decisions import NOW
from support.long import times
from support.policies import allow, call, deny, rule, tool_call, when

from sidecar.errors import PathError
from sidecar.policy.authz import RuleSet
from sidecar.policy.decide import Policy, decide
from sidecar.policy.path import Normalisation, normalise
from sidecar.policy.spec import Action
from sidecar.policy.verdict import Permit

DENIED, BELOW, PUBLIC = "/admin", "/admin/users", "/public/a"
POLICIES = {
    "one path never": Policy(
        RuleSet([deny(rule(paths=[DENIED, "/admin/*"]))], default=Action.ALLOW)
    ),
    "one folder": Policy(RuleSet([allow(rule(paths=["/public/*"]))])),
    "all but one path": Policy(RuleSet([allow(rule(not_paths=[DENIED, "/admin/*"]))])),
}
BASE, MERGE = Normalisation.BASE, Normalisation.MERGE_SLASHES
DECODE = Normalisation.DECODE_AND_MERGE_SLASHES
NEEDLESS = re.compile("%(?:2[DE]|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F|7E)", re.IGNORECASE)


@st.composite
def spelled(draw: DrawFn, mode: Normalisation, path: str) -> str:
    """*path* as a request might write it for servers that read as *mode* says."""
    slashes = ["/"] * 6 + ["/./", "/x/../", "/%2e/", "/y/%2E%2e/", "\\", "/.\\"]
    if mode in (MERGE, DECODE):
        slashes += ["//", "///", "/.//"]
    if mode is DECODE:
        slashes += ["%2f", "%2F", "%5c", "/%2f"]
    out = []
    for place, character in enumerate(path):
        if character == "/":
            chosen = draw(st.sampled_from(slashes))
            out.append(chosen if place or chosen.startswith("/") else "/")
        elif draw(st.integers(0, 3)) == 0:
            out.append(
                f"%{ord(character):02x}" if draw(st.booleans()) else f"%{ord(character):02X}"
            )
        else:
            out.append(character)
    behind = draw(st.sampled_from(["", "", "", "?", "?x=/a", "?/../public", "#", "#/a"]))
    return "".join(out) + behind


def opened(mode: Normalisation, target: str) -> str:
    """The path that a server of the kind that *mode* is for takes *target* for."""
    path = re.split("[?#]", target)[0]
    if mode is DECODE:
        path = unquote(path)
    else:
        path = NEEDLESS.sub(lambda found: unquote(found[0]), path)
    path = _resolved(path.replace("\\", "/"))
    return path if mode is BASE else re.sub("//+", "/", path)


def _resolved(path: str) -> str:
    """RFC 3986, section 5.2.4, by its text."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


def merged_first(mode: Normalisation, target: str) -> str:
    """The same by a server that takes slashes together before it goes up."""
    path = opened(mode, target) if mode is BASE else re.split("[?#]", target)[0]
    path = unquote(path) if mode is DECODE else path
    return path if mode is BASE else normpath(re.sub("//+", "/", path.replace("\\", "/")))


def is_denied(path: str) -> bool:
    return path == DENIED or path.startswith(f"{DENIED}/")


TARGETS = st.sampled_from([BASE, MERGE, DECODE]).flatmap(
    lambda mode: st.tuples(
        st.just(mode),
        st.sampled_from([DENIED, BELOW, PUBLIC, "/public/../admin", "/a/b"]).flatmap(
            lambda path: spelled(mode, path)
        ),
    )
)


@settings(max_examples=times(300, 20_000), deadline=None)
@given(st.sampled_from(sorted(POLICIES)), TARGETS)
def test_no_spelling_of_a_path_passes_as_another(
    name: str, asked: tuple[Normalisation, str]
) -> None:
    mode, target = asked
    try:
        forwarded = normalise(target, mode)
    except PathError:
        return
    path, _, query = forwarded.partition("?")
    one = call("GET", path)
    one.query = query
    verdict = decide(one, POLICIES[name], NOW)
    # The server is sent what was judged, whatever came.
    if isinstance(verdict, Permit):
        assert not is_denied(opened(mode, forwarded))
        assert not is_denied(merged_first(mode, forwarded))


@given(TARGETS)
def test_what_is_forwarded_is_read_as_what_came(asked: tuple[Normalisation, str]) -> None:
    mode, target = asked
    try:
        forwarded = normalise(target, mode)
    except PathError:
        return
    assert opened(mode, forwarded).rstrip("/") == opened(mode, target).rstrip("/")
    assert normalise(forwarded, mode) == forwarded


@pytest.mark.parametrize("mode", [BASE, MERGE, DECODE])
def test_some_spellings_would_fool_who_matches_them_as_they_are(mode: Normalisation) -> None:
    for target in ("/%61dmin", "/x/../admin", "/public/%2e%2e/admin"):
        assert not is_denied(target)
        assert is_denied(opened(mode, target))
        assert is_denied(normalise(target, mode))


# -- headers

VALUES = st.sampled_from(["prod", "dev", "prod-1", "PROD"])
ENV = Policy(RuleSet([deny(rule(when("request.headers[x-env]", ["prod"])))], default=Action.ALLOW))
NOT_ENV = Policy(RuleSet([allow(rule(when("request.headers[X-Env]", [], ["prod"])))]))
NEEDED = Policy(RuleSet([allow(rule(when("request.headers[x-env]", ["dev"]), tools=["read"]))]))


@given(st.lists(st.tuples(st.sampled_from(["x-env", "x-other"]), VALUES), max_size=4))
def test_a_header_is_matched_wherever_it_stands(headers: list[tuple[str, str]]) -> None:
    said = {value for name, value in headers if name == "x-env"}
    for compiled in (ENV, NOT_ENV):
        verdict = decide(call("GET", "/", headers=headers), compiled, NOW)
        assert isinstance(verdict, Permit) is ("prod" not in said)
    asked = tool_call("read", headers=[*headers, ("content-type", "application/json")])
    asked.content_type = "application/json"
    assert isinstance(decide(asked, NEEDED, NOW), Permit) is ("dev" in said)
