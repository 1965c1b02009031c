"""A server that is a program and speaks over its standard streams, as it is written.

The program is started without a shell, with an environment of its own: what is listed,
and the few names that programs cannot do without. What is the service manager's is never
handed on. Whether the program is there is not asked here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from .addresses import Address, Target
from .nodes import MapNode
from .paths import PlainPathForm
from .problem import Notes
from .schema import Field, ListOf, MapOf, Struct
from .values import Duration, Malformed, Read, Size, Whole

# What a program is told of this process' own environment, if it is there.
INHERITED: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("TMPDIR", "XDG_CACHE_HOME"),
)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_OURS: Final = re.compile(
    r"NOTIFY_SOCKET|LISTEN_.*|WATCHDOG_.*|CREDENTIALS_DIRECTORY|MAINPID|INVOCATION_ID|SIDECAR_.*"
)
_MOST_WORDS: Final = 256
_MOST_NAMES: Final = 128
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class StdioSpec:
    """How the program is started, and how much it and its callers may hold."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    inherit_env: tuple[str, ...] = ()
    cwd: str = ""
    children: int = 64
    children_per_caller: int = 8
    calls: int = 64
    idle_timeout: float = 600.0
    start_timeout: float = 60.0
    end_timeout: float = 5.0
    line_bytes: int = 4_194_304
    queue_bytes: int = 1_048_576
    replay_bytes: int = 262_144

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """Return the program's environment, where *own* is this process'."""
        names = (*INHERITED, *self.inherit_env)
        return {**{name: own[name] for name in names if name in own}, **self.env}


def target_at(listen: Address) -> Target:
    """Return the target that the program behind the listener on *listen* is."""
    return Target("localhost", "localhost", f"stdio:{listen}")


def _variable(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not the name of a variable", "write it like `API_TOKEN`")
    if _OURS.fullmatch(text) is not None:
        raise Malformed(
            f"`{text}` is never handed on",
            "remove it",
            "SC0711",
            why="it is between the service manager and the sidecar: with it a program could "
            "speak in the sidecar's name, or find what is lent to it",
        )
    return text


def _whole(text: str) -> str:
    if "\0" in text:
        raise Malformed("it holds NUL, which ends a text for the kernel", "remove it")
    return text


def _check(spec: StdioSpec, node: MapNode, path: str, notes: Notes) -> None:
    if not spec.command[0]:
        notes.error("SC0211", f"{path}.command names no program", node.get("command") or node)
    if spec.children_per_caller > spec.children:
        notes.error(
            "SC0206",
            f"{path}.childrenPerCaller is over `children`, which is {spec.children}",
            node.get("childrenPerCaller") or node,
            help="write a smaller number: one caller could not have more than all have",
        )


STDIO: Final = Struct(
    "Stdio",
    StdioSpec,
    (
        Field(
            "command",
            ListOf(Read("text", _whole), least=1, most=_MOST_WORDS),
            "The program and its arguments, one word each; no shell reads them.",
            required=True,
        ),
        Field(
            "env",
            MapOf(Read("name", _variable), Read("text", _whole, 32_768), most=_MOST_NAMES),
            "Variables of its environment.",
        ),
        Field(
            "inheritEnv",
            ListOf(Read("name", _variable), least=1, most=_MOST_NAMES),
            "Variables that it gets from the sidecar's environment, where they are set.",
            default=f"{', '.join(f'`{name}`' for name in INHERITED)} always",
        ),
        Field("cwd", PlainPathForm(), "The folder it runs in.", default="the sidecar's"),
        Field("children", Whole(1, _MOST), "Programs that run at once.", default="64"),
        Field(
            "childrenPerCaller",
            Whole(1, _MOST),
            "Programs of one caller. One that needs another session ends its longest idle one.",
            default="8",
        ),
        Field("calls", Whole(1, _MOST), "Calls under way in one program.", default="64"),
        Field(
            "idleTimeout",
            Duration(),
            "A program that nobody calls and nobody listens to.",
            default="600s",
        ),
        Field("startTimeout", Duration(), "From its start to its first line.", default="60s"),
        Field(
            "endTimeout",
            Duration(),
            "What it has to end by itself once its input is closed, and again after SIGTERM; then "
            "it is killed, with all it has started.",
            default="5s",
        ),
        Field("lineBytes", Size(), "A line it writes; a longer one ends it.", default="4MiB"),
        Field("queueBytes", Size(), "What waits until it, or a caller, reads.", default="1MiB"),
        Field(
            "replayBytes",
            Size(),
            "Events of a session that are kept for who comes back (`Last-Event-ID`).",
            default="256KiB",
        ),
    ),
    check=_check,
)
