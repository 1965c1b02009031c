"""No spelling of a body turns a denial into a permit: whatever is let pass, no reader takes
it for what is denied."""

from __future__ import annotations

import json
from posixpath import normpath
from typing import Any

from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from support.decisions import NOW, asked, policy
from support.long import times
from support.policies import allow, deny, rule, when
from support.spellings import READERS, written

from sidecar.policy.decide import Policy, Scans, decide
from sidecar.policy.spec import Action
from sidecar.policy.verdict import Permit

GOOD, BAD, INSIDE, OUTSIDE = "read", "drop", "/srv/a", "/etc/shadow"
SRV = when("mcp.argumentPaths[path]", ["/srv/*"])
ETC = when("mcp.argumentPaths[path]", ["/etc/*"])
POLICIES = {
    "only one tool": policy([allow(rule(tools=[GOOD]))], Scans()),
    "one tool never": policy([deny(rule(tools=[BAD]))], Scans(), default=Action.ALLOW),
    "all but one tool": policy([allow(rule(mcp_methods=["*"], not_tools=[BAD]))], Scans()),
    "one folder": policy([allow(rule(SRV, tools=[GOOD]))], Scans()),
    "one folder never": policy([deny(rule(ETC))], Scans(), default=Action.ALLOW),
}
FOLDERS = {"one folder", "one folder never"}


def call(tool: Any, path: Any = INSIDE) -> dict[str, Any]:
    params = {"name": tool, "arguments": {"path": path}}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


DECOYS: dict[str, list[Any]] = {
    "name": [GOOD, BAD, 5, [BAD]],
    "method": ["ping", "tools/call", "tools/list"],
    "params": [{"name": GOOD}, {"name": BAD, "arguments": {"path": OUTSIDE}}],
    "arguments": [{"path": INSIDE}, {"path": OUTSIDE}],
    "path": [INSIDE, OUTSIDE, "/srv/../etc/shadow", [OUTSIDE]],
    "id": [1, "1", 1.0],
}
PATHS = st.sampled_from(
    [
        *(INSIDE, OUTSIDE, "/srv/../etc/shadow", "//etc/shadow", "/etc/./shadow", "/./etc//shadow"),
        *("/srv/a/../../etc/shadow", "\\etc\\shadow", "/srv/..", "/etc/shadow/"),
    ]
)
CALLS = st.builds(call, st.sampled_from([GOOD, BAD]), PATHS)
BODIES = CALLS.flatmap(lambda value: written(value, DECOYS))


def is_denied(name: str, read: Any) -> bool:
    """Whether a server that took the body for *read* would do what the policy *name* denies."""
    if not isinstance(read, dict) or read.get("method") != "tools/call":
        return False
    params = read.get("params")
    if not isinstance(params, dict):
        return False
    if name not in FOLDERS:
        return params.get("name") == BAD
    arguments = params.get("arguments")
    path = arguments.get("path") if isinstance(arguments, dict) else None
    if not isinstance(path, str):
        return False
    opened = normpath(path.replace("\\", "/")).replace("//", "/")
    return opened.startswith("/etc/")


def permits(name: str, body: bytes) -> bool:
    return isinstance(decide(asked(body), POLICIES[name], NOW), Permit)


@settings(max_examples=times(400, 20_000), deadline=None)
@given(st.sampled_from(sorted(POLICIES)), BODIES)
def test_what_passes_is_to_no_reader_what_is_denied(name: str, body: bytes) -> None:
    if permits(name, body):
        assert not any(is_denied(name, read(body)) for read in READERS)


@settings(max_examples=200, deadline=None)
@given(CALLS.flatmap(lambda value: st.tuples(st.just(value), written(value, {}, sound=True))))
def test_sound_json_is_judged_by_what_it_says_alone(said: tuple[dict[str, Any], bytes]) -> None:
    value, body = said
    for name in POLICIES:
        assert permits(name, body) == permits(name, json.dumps(value).encode())


def lax(body: bytes) -> bool:
    """A judge that reads as most do: it lets the call of `read` through."""
    try:
        value = json.loads(body)
        return bool(value["params"]["name"] == GOOD)
    except (ValueError, LookupError, TypeError):
        return False


def test_a_laxer_judge_would_be_caught() -> None:
    """The property can fail: spellings that fool who reads laxly are among those tried."""
    name = "only one tool"
    for wanted in (b'"NAME"', b'"Name"'):

        def fools(body: bytes, wanted: bytes = wanted) -> bool:
            read = (read(body) for read in READERS)
            return lax(body) and wanted in body and any(is_denied(name, one) for one in read)

        generate = settings(max_examples=50_000, database=None, phases=[Phase.generate])
        assert not permits(name, find(BODIES, fools, settings=generate))


def test_every_policy_lets_something_pass() -> None:
    compiled: Policy
    for name, compiled in POLICIES.items():
        assert isinstance(decide(asked(json.dumps(call(GOOD))), compiled, NOW), Permit), name
