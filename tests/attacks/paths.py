"""Paths that a rule reads in one way and a server might in another."""

from __future__ import annotations

from .harness import (
    ANYTHING,
    BY_RULE,
    DENIED,
    INVALID,
    NOT_A_MESSAGE,
    Attack,
    policy,
    request,
    to,
    use,
)

READ = policy(to("methods: [POST], paths: [/mcp], tools: [read]"))
NO_ADMIN = policy(ANYTHING, deny=(to("paths: [/admin, '/admin/*']"),))
PUBLIC = policy(to("paths: ['/public/*']"))
ONE_TOOL_HERE = policy(ANYTHING, deny=(to("paths: [/mcp], notTools: [read]"),))


def at(target: str) -> bytes:
    return request(use("read"), target=target)


def strange(what: str, target: str, status: int = DENIED) -> Attack:
    """A path that is not the one that is allowed."""
    code = BY_RULE if status == DENIED else NOT_A_MESSAGE
    return Attack(f"{what}, where one path is allowed", READ, at(target), status, code, at("/mcp"))


def denied(what: str, target: str, status: int = DENIED) -> Attack:
    """A path that servers take for the one that is denied."""
    code = BY_RULE if status == DENIED else NOT_A_MESSAGE
    return Attack(
        f"{what}, where one path is denied", NO_ADMIN, at(target), status, code, at("/other")
    )


def climbing(what: str, target: str) -> Attack:
    """A path that leaves the folder that is allowed."""
    return Attack(f"out of a folder: {what}", PUBLIC, at(target), DENIED, BY_RULE, at("/public/a"))


ATTACKS = [
    strange("two slashes", "//mcp"),
    strange("a slash behind", "/mcp/"),
    strange("a parameter", "/mcp;x"),
    strange("capitals", "/MCP"),
    strange("an escaped slash behind", "/mcp%2f"),
    strange("an escaped slash before", "/%2fmcp"),
    strange("an escaped NUL", "/mcp%00", INVALID),
    strange("an escaped NUL and more", "/mcp%00.txt", INVALID),
    strange("an escaped blank", "/mcp%20"),
    strange("an escaped line end", "/mcp%0d%0a"),
    strange("an ending", "/mcp.json"),
    strange("escapes of escapes", "/%256dcp"),
    strange("an escape that is forged", "/%2%45mcp", INVALID),
    strange("a way out", "/mcp/../other"),
    strange("the path in the query", "/other?/mcp"),
    strange("the path behind a dot segment of the query", "/other?/../mcp"),
    strange("a fragment", "/mcp#x", INVALID),
    strange("another host's", "http://evil.example/mcp", INVALID),
    strange("another scheme's", "ftp://files.local/mcp", INVALID),
    strange("no path", "mcp", INVALID),
    strange("a star", "*", INVALID),
    strange("overlong letters", "/%c1%adcp"),
    strange("another folder's", "/x/mcp"),
    denied("the path itself", "/admin"),
    denied("a letter escaped", "/%61dmin"),
    denied("a letter escaped in capitals", "/admi%6E"),
    denied("all of it escaped", "/%61%64%6d%69%6e"),
    denied("a dot segment", "/./admin"),
    denied("an escaped dot segment", "/%2e/admin"),
    denied("out of another folder", "/public/../admin"),
    denied("out of another folder, escaped", "/public/%2e%2e/admin"),
    denied("out of another folder, half escaped", "/public/.%2E/admin"),
    denied("out of another folder, by a backslash", "/public\\..\\admin"),
    denied("a backslash for a slash", "\\admin", INVALID),
    denied("out of nowhere", "/../../admin"),
    denied("something below it", "/admin/%75sers"),
    denied("a query behind it", "/admin?x=/public"),
    denied("a full URL of this host", "http://files.local/admin"),
    denied("a NUL behind it", "/admin%00", INVALID),
    climbing("two dots", "/public/../admin"),
    climbing("escaped dots", "/public/%2e%2e/admin"),
    climbing("mixed dots", "/public/%2E./admin"),
    climbing("a backslash", "/public/..\\admin"),
    climbing("at the end", "/public/.."),
    climbing("in and out", "/public/a/../../admin"),
    climbing("by a full URL", "http://files.local/public/../admin"),
    Attack(
        "another tool at the path where one is allowed, spelled otherwise",
        ONE_TOOL_HERE,
        request(use("drop"), target="/%6dcp"),
        DENIED,
        BY_RULE,
        at("/%6dcp"),
    ),
]
