"""Every method of MCP that names something, used for what no rule allows."""

from __future__ import annotations

from typing import Any

from .harness import (
    ANYTHING,
    BAD_PARAMS,
    BY_RULE,
    DENIED,
    INVALID,
    NOT_A_MESSAGE,
    NOT_JSON,
    Attack,
    policy,
    request,
    said,
    to,
    use,
)

USES = policy(to("tools: [read]"), to("prompts: [greet]"), to("resources: ['file:///srv/*']"))
NO_SHADOW = policy(ANYTHING, deny=(to("resources: ['file:///etc/*', 'https://internal/*']"),))
CALLS = policy(to("mcpMethods: [tools/call]"))
LISTS = policy(to("mcpMethods: [tools/list]"))
GREET, SRV = {"name": "greet"}, {"uri": "file:///srv/a"}


def use_of(
    what: str,
    method: str,
    params: Any,
    honest: Any,
    status: int = DENIED,
    code: int = BY_RULE,
    documents: str = USES,
) -> Attack:
    """*method* with *params*, where it is allowed with *honest*."""
    return Attack(
        f"{method}: {what}",
        documents,
        request(said(method, params)),
        status,
        code,
        request(said(method, honest)),
    )


def ref(**reference: str) -> dict[str, Any]:
    return {"ref": reference, "argument": {"name": "a", "value": "b"}}


def listen(*uris: Any) -> dict[str, Any]:
    return {"notifications": {"resourceSubscriptions": list(uris)}}


def read(what: str, uri: Any, status: int = DENIED, code: int = BY_RULE) -> Attack:
    """A resource below `/etc`, spelled so that no rule's text is in it."""
    wanted = {"uri": "file:///srv/a"}
    params = {"uri": uri}
    return use_of(what, "resources/read", params, wanted, status, code, NO_SHADOW)


def only(what: str, method: str, params: Any, documents: str, honest: bytes) -> Attack:
    """A method that the rules do not name."""
    return Attack(what, documents, request(said(method, params)), DENIED, BY_RULE, honest)


PROMPT = ref(type="ref/prompt", name="greet")
HONEST = request(use("read"))

ATTACKS = [
    use_of("another prompt", "prompts/get", {"name": "x"}, GREET),
    use_of("a prompt that is called like a tool", "prompts/get", {"name": "read"}, GREET),
    use_of("a number", "prompts/get", {"name": 1}, GREET, INVALID, BAD_PARAMS),
    use_of("another folder", "resources/read", {"uri": "file:///etc/shadow"}, SRV),
    use_of("no URI", "resources/read", {}, SRV, INVALID, BAD_PARAMS),
    use_of(
        "a URI longer than any",
        "resources/read",
        {"uri": "file:///srv/" + "a" * 4096},
        SRV,
        INVALID,
        BAD_PARAMS,
    ),
    use_of("a way out", "resources/read", {"uri": "file:///srv/../etc/shadow"}, SRV),
    use_of("an escaped way out", "resources/read", {"uri": "file:///srv/%2e%2e/etc/shadow"}, SRV),
    use_of(
        "an escaped slash in a way out",
        "resources/read",
        {"uri": "file:///srv/..%2fetc/shadow"},
        SRV,
    ),
    use_of(
        "a backslash in a way out", "resources/read", {"uri": "file:///srv/..\\etc\\shadow"}, SRV
    ),
    use_of("another host's file", "resources/read", {"uri": "file://evil/srv/a"}, SRV),
    use_of("another folder", "resources/subscribe", {"uri": "file:///etc/shadow"}, SRV),
    use_of("another folder", "resources/unsubscribe", {"uri": "file:///etc/shadow"}, SRV),
    # -- what a DENY names, spelled otherwise
    read("the file itself", "file:///etc/shadow"),
    read("another case of the scheme", "FILE:///etc/shadow"),
    read("a letter escaped", "file:///%65tc/shadow"),
    read("a slash escaped", "file:///etc%2Fshadow"),
    read("one slash", "file:/etc/shadow"),
    read("no slash", "file:etc/shadow"),
    read("four slashes", "file:////etc/shadow"),
    read("backslashes", "file:\\\\\\etc\\shadow"),
    read("a host", "file://localhost/etc/shadow"),
    read("a dot segment", "file:///./etc/shadow"),
    read("a way round", "file:///srv/../etc/shadow"),
    read("a blank before it", " file:///etc/shadow"),
    read("a tab in it", "file:///e\ttc/shadow", INVALID, BAD_PARAMS),
    read("a NUL behind it", "file:///etc/shadow%00.txt"),
    read("the host in capitals", "https://INTERNAL/a"),
    read("the host escaped", "https://%69nternal/a"),
    read("a user before the host", "https://x@internal/a"),
    read("the usual port", "https://internal:443/a"),
    read("a dot behind the host", "https://internal./a"),
    read("a backslash before the host", "https:\\\\internal/a"),
    read("an address that is a number", "https://2130706433/a"),
    read("full-width letters in the host", "https://\uff49nternal/a"),
    # -- completions
    use_of("another prompt", "completion/complete", ref(type="ref/prompt", name="x"), PROMPT),
    use_of(
        "another folder",
        "completion/complete",
        ref(type="ref/resource", uri="file:///etc/{x}"),
        PROMPT,
    ),
    use_of(
        "a prompt with an allowed URI",
        "completion/complete",
        ref(type="ref/prompt", name="x", uri="file:///srv/a"),
        PROMPT,
    ),
    use_of(
        "a reference of no kind",
        "completion/complete",
        ref(type="ref/tool", name="read"),
        PROMPT,
        INVALID,
        BAD_PARAMS,
    ),
    use_of(
        "a kind in capitals",
        "completion/complete",
        ref(type="REF/PROMPT", name="x"),
        PROMPT,
        INVALID,
        BAD_PARAMS,
    ),
    use_of("no reference", "completion/complete", {"argument": {}}, PROMPT, INVALID, BAD_PARAMS),
    use_of(
        "a reference that is text", "completion/complete", {"ref": "x"}, PROMPT, INVALID, BAD_PARAMS
    ),
    use_of(
        "a twin of its name",
        "completion/complete",
        ref(type="ref/prompt", name="greet", Name="x"),
        PROMPT,
        INVALID,
        NOT_JSON,
    ),
    use_of("a twin of it", "completion/complete", {**PROMPT, "Ref": {}}, PROMPT, INVALID, NOT_JSON),
    # -- subscriptions
    use_of(
        "one bad URI among good ones",
        "subscriptions/listen",
        listen("file:///srv/a", "file:///etc/shadow", "file:///srv/b"),
        listen("file:///srv/a"),
    ),
    use_of(
        "the last one bad",
        "subscriptions/listen",
        listen("file:///srv/a", "file:///srv/../etc/shadow"),
        listen("file:///srv/a"),
    ),
    use_of(
        "a number among URIs",
        "subscriptions/listen",
        listen("file:///srv/a", 5),
        listen("file:///srv/a"),
        INVALID,
        BAD_PARAMS,
    ),
    use_of(
        "a list in the list",
        "subscriptions/listen",
        listen(["file:///etc/a"]),
        listen("file:///srv/a"),
        INVALID,
        BAD_PARAMS,
    ),
    use_of(
        "more than the bound",
        "subscriptions/listen",
        listen(*["file:///srv/a"] * 1025),
        listen("file:///srv/a"),
        INVALID,
        BAD_PARAMS,
    ),
    use_of(
        "one URI for a list",
        "subscriptions/listen",
        {"notifications": {"resourceSubscriptions": "file:///etc/a"}},
        listen("file:///srv/a"),
        INVALID,
        BAD_PARAMS,
    ),
    use_of(
        "a list for an object",
        "subscriptions/listen",
        {"notifications": ["file:///etc/a"]},
        listen("file:///srv/a"),
        INVALID,
        BAD_PARAMS,
    ),
    use_of(
        "a twin that the Python SDK reads",
        "subscriptions/listen",
        {"notifications": {"resource_subscriptions": ["file:///etc/a"]}},
        listen("file:///srv/a"),
        INVALID,
        NOT_JSON,
    ),
    use_of(
        "a word that nobody knows",
        "subscriptions/listen",
        {"notifications": {"everything": True}},
        listen("file:///srv/a"),
    ),
    # -- tasks
    only("a task's result, where tools are named", "tasks/result", {"taskId": "t"}, USES, HONEST),
    only("a task's state, where tools are named", "tasks/get", {"taskId": "t"}, USES, HONEST),
    only("a task's end, where tools are named", "tasks/cancel", {"taskId": "t"}, USES, HONEST),
    only("a task's input, where tools are named", "tasks/update", {"taskId": "t"}, USES, HONEST),
    *(
        use_of(
            what,
            "tasks/get",
            {"taskId": value},
            {"taskId": "t"},
            INVALID,
            BAD_PARAMS,
            policy(to("mcpMethods: ['tasks/*']")),
        )
        for what, value in (("a number", 7), ("a list", ["t"]), ("a line end", "t\n"))
    ),
    # -- what only the server asks, and what nobody named
    only("a question that only servers ask", "sampling/createMessage", {}, USES, HONEST),
    only("another one", "elicitation/create", {}, USES, HONEST),
    only("the caller's own roots", "roots/list", None, USES, HONEST),
    only("the level of logs", "logging/setLevel", {"level": "debug"}, USES, HONEST),
    only("a method that nobody knows", "rpc.discover", None, USES, HONEST),
    only("a method that is nearly one", "tools//call", {"name": "read"}, USES, HONEST),
    only("a list, where calls are named", "tools/list", None, CALLS, HONEST),
    only("a session, where calls are named", "initialize", {}, CALLS, HONEST),
    only(
        "a call, where lists are named",
        "tools/call",
        {"name": "read"},
        LISTS,
        request(said("tools/list")),
    ),
    Attack(
        "an answer, where calls are named",
        CALLS,
        request('{"jsonrpc":"2.0","id":1,"result":{}}'),
        DENIED,
        BY_RULE,
        HONEST,
    ),
    Attack(
        "a notification, where calls are named",
        CALLS,
        request('{"jsonrpc":"2.0","method":"notifications/tools/call","params":{"name":"read"}}'),
        DENIED,
        BY_RULE,
        HONEST,
    ),
    Attack(
        "an answer whose result hides a twin",
        USES,
        request('{"jsonrpc":"2.0","id":1,"result":{"Tools":[]}}'),
        INVALID,
        NOT_JSON,
        request('{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}'),
    ),
    Attack(
        "an error that is no object",
        USES,
        request('{"jsonrpc":"2.0","id":1,"error":"x"}'),
        INVALID,
        NOT_A_MESSAGE,
        request('{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}'),
    ),
]
