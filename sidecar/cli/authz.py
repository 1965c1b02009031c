"""sidecar authz check: may this caller make this request, and which rule says so.

One question in flags gives one line; `--requests` gives one JSON verdict a line of its
file, in order. Nothing is started and nobody is asked: only documents are read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from ..config.report import visible
from ..errors import StartError
from .authz_answer import ALLOW, refused
from .authz_judge import Judge
from .authz_request import Malformed, Question, from_line, from_value, identity_of
from .authz_setup import prepared

OK: Final = 0
FAILED: Final = 1
DENIED: Final = 3

MOST_BYTES: Final = 4 * 1024 * 1024  # of one line of requests

# The flags of one question.
_ASKING: Final = (
    *("method", "path", "host", "port", "ip", "header"),
    *("tool", "prompt", "resource", "mcp_method", "arg"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    what = "say whether a caller may make a request, by which rule, and if not, why"
    check = commands.add_parser("check", help=what, description=what)
    _documents(check)
    _question(check)
    check.add_argument(
        "--requests",
        metavar="FILE",
        help="judge each line of FILE (`-`: stdin), a request in JSON; one JSON verdict a line",
    )
    check.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="how one answer is written"
    )


def _documents(check: argparse.ArgumentParser) -> None:
    check.add_argument(
        "--policy",
        metavar="PATH",
        action="extend",
        nargs="+",
        required=True,
        help="files or folders of documents, or a bootstrap; may be given again",
    )
    check.add_argument(
        "--workload",
        metavar="NS/NAME",
        default="",
        help="the server that is asked; by default the one whose policies these are",
    )
    check.add_argument(
        "--labels",
        metavar="K=V,...",
        help="its labels; without --workload, by default those that the selectors name",
    )
    check.add_argument(
        "--mesh",
        metavar="FILE",
        help="JSON: rootNamespace, trustDomain, trustDomainAliases, spaceDelimitedClaims, "
        "pathNormalization",
    )
    check.add_argument(
        "--compat", choices=("istio",), help="Istio's open defaults in place of the closed ones"
    )


def _question(check: argparse.ArgumentParser) -> None:
    ask = check.add_argument_group("one question")
    ask.add_argument("--as", dest="caller", metavar="NS/SA", help="the caller: NS/SA or SPIFFE ID")
    ask.add_argument("--method", metavar="METHOD", help="the HTTP method (POST with a message)")
    ask.add_argument("--path", metavar="PATH", help="the path (/mcp)")
    ask.add_argument("--host", metavar="HOST", help="the host (localhost)")
    ask.add_argument("--port", metavar="PORT", type=int, help="the port that is called")
    ask.add_argument("--ip", metavar="IP", help="the caller's address (127.0.0.1)")
    ask.add_argument(
        "--header",
        metavar="NAME:VALUE",
        action="append",
        default=[],
        help="a header field; may be given again",
    )
    message = ask.add_mutually_exclusive_group()
    message.add_argument("--tool", metavar="TOOL", help="the tool that is called")
    message.add_argument("--prompt", metavar="PROMPT", help="the prompt that is asked for")
    message.add_argument("--resource", metavar="URI", help="the resource that is read")
    message.add_argument("--mcp-method", metavar="M", help="another method, such as tools/list")
    ask.add_argument(
        "--arg",
        metavar="K=V",
        action="append",
        default=[],
        help="an argument of the tool or prompt, as text; may be given again",
    )


def run(args: argparse.Namespace) -> int:
    """Answer; 0 if all is allowed, 3 if something is not, 1 if a line is no request."""
    if (args.requests is None) == (args.caller is None):
        raise StartError(
            "one of `--as` and `--requests` is needed, and not both",
            code=2,
            help="write `--as agent/alice --tool read_file`, or `--requests FILE`",
        )
    _check_apart(args)
    recorded = args.requests is not None
    setup = prepared(
        args.policy, args.workload, args.labels, args.mesh, args.compat, recorded=recorded
    )
    judge = setup.judge()
    print(setup.notes(judge.snapshot.warnings), end="", file=sys.stderr)
    now = time.time()  # noqa: TID251  a command is where the time comes in
    if recorded:
        return _answer_all(args.requests, judge, now)
    return _answer_one(args, judge, setup.trust_domain, now)


def _check_apart(args: argparse.Namespace) -> None:
    """Refuse a question in flags beside a file of them: nobody would answer it."""
    if args.requests is None:
        return
    for option in _ASKING:
        if getattr(args, option) not in (None, []):
            raise StartError(
                f"`--{option.replace('_', '-')}` is there beside `--requests`",
                code=2,
                help="write it into the lines of the file",
            )


# -- one question


def _answer_one(args: argparse.Namespace, judge: Judge, trust_domain: str, now: float) -> int:
    try:
        question = _asked(args, trust_domain)
    except Malformed as error:
        raise StartError(str(error), code=2) from None
    answer = judge.answer(question, now)
    if args.output == "json":
        print(json.dumps(answer.as_dict()))
    else:
        print(visible(answer.line(args.caller, _what(args, question))))
    return OK if answer.verdict == ALLOW else DENIED


def _asked(args: argparse.Namespace, trust_domain: str) -> Question:
    """Return the question that the flags ask, as a line of `--requests` would."""
    identity = identity_of(args.caller, trust_domain)
    message = _message(args)
    return from_value(
        {
            "source": {"principal": str(identity), "ip": args.ip},
            "destination": {"port": args.port},
            "method": args.method,
            "path": "/mcp" if args.path is None else args.path,
            "host": args.host,
            "headers": [_pair(one, ":", "--header") for one in args.header],
            "mcp": message,
        }
    )


def _message(args: argparse.Namespace) -> dict[str, object] | None:
    arguments = _arguments(args)
    params: dict[str, object]
    # An empty name is a name: a shell's variable that is not set must not ask something else.
    if args.tool is not None:
        method, params = "tools/call", {"name": args.tool, "arguments": arguments}
    elif args.prompt is not None:
        method, params = "prompts/get", {"name": args.prompt, "arguments": arguments}
    elif args.resource is not None:
        method, params = "resources/read", {"uri": args.resource}
    elif args.mcp_method is not None:
        method, params = args.mcp_method, {}
    else:
        return None
    number = {} if method.startswith("notifications/") else {"id": 1}
    return {"jsonrpc": "2.0", **number, "method": method, "params": params}


def _arguments(args: argparse.Namespace) -> dict[str, str]:
    """Return what `--arg` names, each once."""
    if args.arg and args.tool is None and args.prompt is None:
        raise Malformed("`--arg` is there without `--tool` or `--prompt`")
    found: dict[str, str] = {}
    for name, value in (_pair(one, "=", "--arg") for one in args.arg):
        if name in found:
            raise Malformed(f"`--arg {name}` is there twice")
        found[name] = value
    return found


def _pair(text: str, mark: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(mark)
    if not found or not name:
        raise Malformed(f"`{option} {text}` is not written as NAME{mark}VALUE")
    return name, value.lstrip(" ") if mark == ":" else value


def _what(args: argparse.Namespace, question: Question) -> str:
    """Return the request in a few words."""
    for method, target in (
        ("tools/call", args.tool),
        ("prompts/get", args.prompt),
        ("resources/read", args.resource),
    ):
        if target is not None:
            return f"{method} {target}"
    return args.mcp_method or f"{question.method} {question.path}"


# -- many requests


def _answer_all(file: str, judge: Judge, now: float) -> int:
    """Judge the lines of *file* in order, each by itself."""
    verdicts: set[str] = set()
    broken = False
    for number, line in _lines(file):
        try:
            answer = judge.answer(_read(line), now)
        except Malformed as error:
            broken = True
            answer = refused(f"line {number} is no request: {error}", name=error.name)
        verdicts.add(answer.verdict)
        # At once: whoever writes line by line waits for each answer.
        if not _said(json.dumps(answer.as_dict())):
            return FAILED
    if broken:
        return FAILED
    return OK if verdicts <= {ALLOW} else DENIED


def _said(text: str) -> bool:
    """Say *text* on stdout; False if nobody reads it any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left in the buffer must not be tried again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _read(line: bytes) -> Question:
    if len(line) > MOST_BYTES:
        raise Malformed(f"it is longer than {MOST_BYTES} bytes")
    try:
        return from_line(line.decode())
    except UnicodeDecodeError:
        raise Malformed("it is not UTF-8") from None


def _lines(file: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of *file* that hold something, with their numbers; a long one cut short."""
    if file == "-":
        yield from _numbered(sys.stdin.buffer)
        return
    try:
        with Path(file).open("rb") as lines:
            yield from _numbered(lines)
    except OSError as error:
        raise StartError(f"`{file}` cannot be read: {error.strerror}", code=FAILED) from None


def _numbered(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := lines.readline(MOST_BYTES + 1):
        number += 1
        rest = line
        while rest and not rest.endswith(b"\n") and len(line) > MOST_BYTES:
            rest = lines.readline(MOST_BYTES)
        if line.strip():
            yield number, line
