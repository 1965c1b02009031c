"""What a workload's messages are scanned for: all its inspections together."""

from __future__ import annotations

import pytest
from support.policies import message, tool_call
from support.snapshots import (
    HARM,
    ONE,
    allowed,
    bootstrap,
    compiled,
    document,
    inspection,
    policy,
    problems,
    service,
)

from sidecar.policy.decide import review
from sidecar.policy.verdict import Finding, Inspector

FOUND = ("harm", "prod/one")


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ([], 65_536),
        ([inspection()], 65_536),
        ([inspection("maxBodyBytes: 1KiB")], 1024),
        ([inspection("maxBodyBytes: 1MiB")], 1_048_576),
        ([inspection("maxBodyBytes: 4KiB"), inspection("maxBodyBytes: 2KiB", name="two")], 2048),
        ([inspection("maxBodyBytes: 4KiB"), inspection(name="two")], 4096),
        # What looks at replies alone says nothing of requests.
        ([inspection("maxBodyBytes: 1KiB, directions: [response]")], 65_536),
        ([inspection("maxBodyBytes: 1KiB, directions: [request]")], 1024),
    ],
)
def test_the_longest_request_is_the_least_that_an_inspection_takes(
    texts: list[str], wanted: int
) -> None:
    assert service(bootstrap(), *texts).body_bytes == wanted


def test_where_no_inspection_says_the_limit_holds() -> None:
    text = bootstrap(spec="limits: {requestBodyBytes: 9KiB}")
    assert service(text, inspection()).body_bytes == 9 * 1024


PLUGIN = document(
    "WasmPlugin", f'{{pluginConfig: {{blocked_patterns: ["{HARM}"], max_body_size_kb: 3}}}}'
)


def test_a_wasm_plugin_is_an_inspection_of_both_directions() -> None:
    found = service(PLUGIN)
    assert found.body_bytes == 3 * 1024
    for scans in (found.policy.requests, found.policy.replies):
        assert named(scans.refuse) == ("blocked_patterns[0]", "prod/one")
        assert scans.note is None


def named(scanner: Inspector | None) -> tuple[str, str] | None:
    """The pattern and the rule that a scanner's finding of HARM names; None if it has none."""
    if scanner is None:
        return None
    found = scanner.raw(HARM.upper().encode())
    assert isinstance(found, Finding)
    assert found.text == HARM
    return found.pattern, str(found.rule)


@pytest.mark.parametrize("action", ["DENY", "FLAG", "SHADOW"])
@pytest.mark.parametrize("directions", ["", "request", "response", "request, response"])
def test_each_direction_is_scanned_as_the_inspection_says(action: str, directions: str) -> None:
    spec = f"action: {action}" + (f", directions: [{directions}]" if directions else "")
    found = service(policy(), inspection(spec)).policy
    for name, scans in (("request", found.requests), ("response", found.replies)):
        scanned = FOUND if not directions or name in directions else None
        assert named(scans.refuse) == (scanned if action == "DENY" else None)
        assert named(scans.note) == (None if action == "DENY" else scanned)
    duties = found.permit(None).duties
    assert (duties.inspect, duties.watch) == (found.replies.refuse, found.replies.note)


@pytest.mark.parametrize(
    ("spec", "allows", "flags"),
    [
        ("action: DENY", False, False),
        ("action: FLAG", True, True),
        ("action: SHADOW", True, True),
        ("action: DENY, directions: [response]", True, False),
        ("action: FLAG, directions: [response]", True, False),
    ],
)
def test_only_deny_refuses_a_call(spec: str, allows: bool, flags: bool) -> None:
    asked = tool_call("echo", {"text": HARM})
    asked.content_type = "application/json"
    assert allowed(service(policy(), inspection(spec)), asked) is allows
    assert (asked.flagged is not None) is flags


def test_inspections_of_one_direction_and_action_are_one_scan() -> None:
    other = document("Inspection", '{patterns: ["other bad words"]}', name="two")
    note = document("Inspection", '{patterns: ["merely odd words"], action: FLAG}', name="three")
    found = service(inspection(), other, note).policy.requests
    assert found.refuse is not None
    assert found.note is not None
    seen = found.refuse.raw(b"some other bad words")
    assert seen is not None
    assert (seen.pattern, str(seen.rule)) == ("patterns[0]", "prod/two")
    assert found.refuse.raw(b"merely odd words") is None
    odd = found.note.raw(b"merely odd words")
    assert odd is not None
    assert str(odd.rule) == "prod/three"


def test_a_finding_names_the_place_of_its_pattern() -> None:
    text = document("Inspection", f'\n  patterns:\n  - other words\n  - "{HARM}"')
    scanner = service(text).policy.requests.refuse
    assert scanner is not None
    found = scanner.raw(HARM.encode())
    assert found is not None
    assert found.rule is not None
    assert (found.pattern, found.rule.place) == ("patterns[1]", "f.yaml:14")


def test_all_inbounds_share_their_scans() -> None:
    two = '{listen: "127.0.0.1:8444", to: "http://127.0.0.1:9001"}'
    one, other = compiled(bootstrap(ONE, two), inspection()).services.values()
    assert one.policy.requests is other.policy.requests
    assert one.policy is not other.policy


def test_a_scan_that_clears_a_reply_hides_no_list_from_the_rules() -> None:
    rules = policy("{rules: [{to: [{operation: {tools: [read]}}]}]}")
    listing = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"drop"}]}}'
    for more in ("", "action: FLAG", "directions: [request]"):
        permit = service(rules, inspection(more)).policy.permit(None)
        found = review(listing, permit, message("tools/list"), lambda _: None)
        assert found == listing.replace(b'{"name":"drop"}', b"")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("½" * 1000, "at most 1024"),  # each is three characters once it is folded
        ("\u115f" * 8, "nothing visible"),  # a letter, to Unicode, that nobody sees
        ("harm\\0ful", "NUL"),
    ],
)
def test_a_pattern_that_cannot_be_looked_for_is_a_problem_with_a_place(
    text: str, words: str
) -> None:
    spec = f'{{patterns: ["{HARM}", {{id: odd, text: "{text}"}}]}}'
    (found,) = problems(bootstrap(), document("Inspection", spec))
    assert (found.code, found.is_error, found.where.line) == ("SC0503", True, 11)
    assert "`odd`" in found.message
    assert words in found.message


def test_patterns_that_are_too_much_together_are_a_problem() -> None:
    texts = [
        document(
            "Inspection",
            "{patterns: [" + ", ".join(f"{name}{i:03}{'x' * 1000}" for i in range(140)) + "]}",
            name=name,
        )
        for name in ("one", "two")
    ]
    (found,) = problems(bootstrap(), *texts)
    assert (found.code, found.where.line) == ("SC0503", 13)
    assert "a scan takes at most" in found.message
    assert compiled(bootstrap(), texts[0]).services
