"""Arguments of calls: what a condition must not be talked into, and what it must not miss."""

from __future__ import annotations

from typing import Any

from .harness import ANYTHING, BY_RULE, DENIED, INVALID, NOT_JSON, Attack, policy, request, to, use

SRV = policy(to("tools: [read]", "key: 'mcp.argumentPaths[path]', values: ['/srv/*']"))
DEEP = policy(to("tools: [read]", "key: 'mcp.arguments[to][path]', values: ['/srv/*']"))
NO_ETC = policy(
    ANYTHING,
    deny=(to("tools: [read]", "key: 'mcp.argumentPaths[path]', values: ['/etc/*', /var/key]"),),
)
NO_WRITE = policy(to("tools: [read]", "key: 'mcp.arguments[mode]', notValues: [write]"))
MODE = policy(to("tools: [read]", "key: 'mcp.arguments[mode]', values: ['1', 'true', 'null']"))


def inside(what: str, value: Any, *, whole: bool = False) -> Attack:
    """A path that must not pass for one below `/srv`."""
    arguments = value if whole else {"path": value}
    said = request(use("read", arguments))
    return Attack(
        f"out of /srv: {what}", SRV, said, DENIED, BY_RULE, request(use("read", {"path": "/srv/a"}))
    )


def outside(what: str, value: Any, *, whole: bool = False) -> Attack:
    """A path that must not pass for none below `/etc`."""
    arguments = value if whole else {"path": value}
    said = request(use("read", arguments))
    honest = request(use("read", {"path": "/srv/a"}))
    return Attack(f"into /etc: {what}", NO_ETC, said, DENIED, BY_RULE, honest)


def deep(what: str, arguments: Any) -> Attack:
    honest = request(use("read", {"to": {"path": "/srv/a"}}))
    said = request(use("read", arguments))
    return Attack(f"deep inside: {what}", DEEP, said, DENIED, BY_RULE, honest)


def mode(what: str, arguments: Any, documents: str = NO_WRITE, honest: str = "read") -> Attack:
    said, right = request(use("read", arguments)), request(use("read", {"mode": honest}))
    return Attack(f"a mode: {what}", documents, said, DENIED, BY_RULE, right)


ATTACKS = [
    inside("a way out", "/srv/../etc/shadow"),
    inside("a way out at the end", "/srv/.."),
    inside("a way out, in and out", "/srv/a/../../etc/shadow"),
    inside("a backslash", "/srv/..\\..\\etc\\shadow"),
    inside("one backslash", "/srv/a\\b"),
    inside("escaped dots", "/srv/%2e%2e/etc/shadow"),
    inside("an escaped slash", "/srv/..%2fetc/shadow"),
    inside("an escaped backslash", "/srv/..%5Cetc"),
    inside("an escaped NUL", "/srv/a%00.txt"),
    inside("a neighbour", "/srvx/a"),
    inside("the folder itself", "/srv"),
    inside("a path that starts nowhere", "srv/a"),
    inside("capitals", "/SRV/a"),
    inside("a list", ["/srv/a"]),
    inside("a list of a list", [["/srv/a"]]),
    inside("an object", {"path": "/srv/a"}),
    inside("a number", 5),
    inside("true", True),
    inside("null", None),
    inside("empty", ""),
    inside("a pattern", "*"),
    inside("a URL of a file", "file:///srv/a"),
    inside("no path", {"other": "/srv/a"}, whole=True),
    inside("no arguments", None, whole=True),
    inside("`Path` alone", {"Path": "/srv/a"}, whole=True),
    inside("`Path` beside it", {"path": "/srv/a", "Path": "/etc/shadow"}, whole=True),
    inside("`PATH` beside it", {"PATH": "/etc/shadow", "path": "/srv/a"}, whole=True),
    Attack(
        "out of /srv: two paths",
        SRV,
        request(use("read", {"path": "/srv/a"}).replace('"/srv/a"', '"/srv/a","path":"/etc/a"')),
        INVALID,
        NOT_JSON,
        request(use("read", {"path": "/srv/a"})),
    ),
    Attack(
        "out of /srv: a NUL",
        SRV,
        request(use("read", {"path": "/srv/a\0/../../etc/shadow"})),
        INVALID,
        NOT_JSON,
        request(use("read", {"path": "/srv/a"})),
    ),
    outside("the file itself", "/etc/shadow"),
    outside("two slashes", "//etc/shadow"),
    outside("two slashes inside", "/etc//shadow"),
    outside("a dot segment", "/./etc/shadow"),
    outside("a dot segment inside", "/etc/./shadow"),
    outside("a way round", "/srv/../etc/shadow"),
    outside("a slash behind a file", "/var/key/"),
    outside("a dot behind a file", "/var/key/."),
    outside("slashes inside a file", "/var//key"),
    outside("backslashes", "\\etc\\shadow"),
    outside("in a list", ["/etc/shadow"]),
    outside("a number", 7),
    outside("a twin", {"PATH": "/etc/shadow"}, whole=True),
    outside("a twin beside another", {"path": "/srv/a", "Path": 1}, whole=True),
    deep("a list on the way", {"to": [{"path": "/srv/a"}]}),
    deep("text on the way", {"to": "/srv/a"}),
    deep("null on the way", {"to": None}),
    deep("a number at the end", {"to": {"path": 1}}),
    deep("a twin on the way", {"to": {"path": "/srv/a"}, "To": {"path": "/etc/a"}}),
    deep("a twin at the end", {"to": {"path": "/srv/a", "Path": "/etc/a"}}),
    deep("the last step only", {"path": "/srv/a"}),
    deep("the way in one key", {"to.path": "/srv/a"}),
    deep("another value at the end", {"to": {"path": "/etc/a"}}),
    mode("the one that is excluded", {"mode": "write"}),
    mode("excluded, in a list", {"mode": ["write"]}),
    mode("excluded, in an object", {"mode": {"mode": "write"}}),
    mode("excluded, under a twin", {"Mode": "write"}),
    mode("excluded, beside a twin", {"mode": "read", "MODE": "write"}),
    mode("a number", {"mode": 1}),
    mode("null", {"mode": None}),
    mode("a number for its digits", {"mode": 1}, MODE, "1"),
    mode("true for its name", {"mode": True}, MODE, "true"),
    mode("null for its name", {"mode": None}, MODE, "null"),
    mode("none, where one is asked for", {}, MODE, "1"),
]
