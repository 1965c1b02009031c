"""A sidecar before a program: sessions of the older era, and calls that stand alone.

with programs(tmp_path) as world:
    session = world.begin("agent/alice")
    session.call("whoami")
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .daemon import PYTHON
from .e2e import Daemon, Mesh
from .wire import Caller, Head, Reply, eventually, request, rpc

PROGRAM = Path(__file__).with_name("stdio_program.py")
VERSION = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
}
BOTH = (("content-type", "application/json"), ("accept", "application/json, text/event-stream"))
POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {namespaces: [agent]}}]
    to: [{operation: {paths: [/mcp], notTools: [forbidden]}}]
"""


class Lines:
    """A stream of events, read as it comes."""

    def __init__(self, caller: Caller, head: Head) -> None:
        self._caller, self.head = caller, head
        self._have = b""

    def next(self) -> tuple[str, Any]:
        """Return the next event that has data: its id and its message."""
        while True:
            while b"\n\n" not in self._have:
                size = int(self._caller.line(), 16)
                assert size, "the stream ended"
                self._have += self._caller.take(size)
                assert self._caller.line() == b""
            event, _, self._have = self._have.partition(b"\n\n")
            fields = dict(line.partition(": ")[::2] for line in event.decode().split("\n"))
            if fields.get("data"):
                return fields.get("id", ""), json.loads(fields["data"])

    def ended(self) -> bool:
        """Whether no message comes any more, and the stream ends as it should."""
        rest = (self._have + b"".join(self._caller.chunks())).split(b"\n")
        return not any(line.startswith(b"data: {") for line in rest)


class Session:
    """A session of *who*; each question has a connection of its own."""

    def __init__(self, world: World, who: str) -> None:
        self.world, self.who, self.id, self._last = world, who, "", 1
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}
        reply = self.post(rpc("initialize", params))
        assert reply.status == 200, reply
        self.id = reply.get("mcp-session-id")
        assert self.id
        told = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
        assert self.post(told).status == 202

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (*BOTH, ("mcp-session-id", self.id)) if self.id else BOTH

    def post(self, body: bytes, who: str = "") -> Reply:
        with self.world.daemon.caller(who or self.who) as caller:
            return caller.ask("POST", "/mcp", body, self.headers)

    def use(self, method: str, who: str = "") -> Reply:
        with self.world.daemon.caller(who or self.who) as caller:
            return caller.ask(method, "/mcp", b"", self.headers)

    def message(self, tool: str, **arguments: object) -> bytes:
        self._last += 1
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": self._last}}
        return rpc("tools/call", params, self._last)

    def ask(self, tool: str, **arguments: object) -> Reply:
        return self.post(self.message(tool, **arguments))

    def call(self, tool: str, **arguments: object) -> Any:
        return said(self.ask(tool, **arguments))

    @contextmanager
    def stream(self, tool: str, **arguments: object) -> Iterator[Lines]:
        """Call *tool* and read the events that come."""
        with self.world.stream(
            self.who, "POST", self.message(tool, **arguments), self.headers
        ) as s:
            yield s

    @contextmanager
    def listen(self, last: str = "") -> Iterator[Lines]:
        more = (("last-event-id", last),) if last else ()
        with self.world.stream(self.who, "GET", b"", (*self.headers, *more)) as s:
            yield s


class World:
    """A running sidecar and its callers."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    def begin(self, who: str = "agent/alice") -> Session:
        return Session(self, who)

    @contextmanager
    def stream(
        self, who: str, method: str, body: bytes, headers: tuple[tuple[str, str], ...]
    ) -> Iterator[Lines]:
        with self.daemon.caller(who) as caller:
            caller.send(request(method, "/mcp", body, headers))
            head = caller.head()
            assert head is not None
            assert head.start.split()[1] == "200", head
            yield Lines(caller, head)

    def alone(self, tool: str, id: int = 1, token: object = None, **arguments: object) -> bytes:
        """Return a request of the stateless era, with its headers before it."""
        meta = ENVELOPE | ({} if token is None else {"progressToken": token})
        return rpc("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, id)

    @staticmethod
    def mirrors(tool: str) -> tuple[tuple[str, str], ...]:
        mirrored = (("mcp-method", "tools/call"), ("mcp-name", tool))
        return (*BOTH, ("mcp-protocol-version", VERSION), *mirrored)

    def ask(self, who: str, tool: str, **arguments: Any) -> Reply:
        """Make one call of the stateless era."""
        with self.daemon.caller(who) as caller:
            body = self.alone(tool, **arguments)
            return caller.ask("POST", "/mcp", body, self.mirrors(tool))

    def programs(self) -> int:
        """Return how many programs there are, by the metrics."""
        return int(self.metric("programs"))

    def metric(self, name: str) -> float:
        page = self.daemon.page("/metrics")[1]
        lines = [x for x in page.splitlines() if x.startswith(f"sidecar_stdio_{name}" + "{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def said(reply: Reply) -> Any:
    """Return the text that a call came to, parsed where it is JSON."""
    assert reply.status == 200, reply
    text = reply.json()["result"]["content"][0]["text"]
    try:
        return json.loads(text)
    except ValueError:
        return text


def alive(pid: int) -> bool:
    """Whether the process is there, and no corpse."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Return the processes that *pid* has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found]


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def gone(*pids: int) -> None:
    """Wait until none of the processes is there."""
    eventually(lambda: not any(alive(pid) for pid in pids), f"the end of {pids}")


@contextmanager
def programs(folder: Path, *flags: str, **stdio: object) -> Iterator[World]:
    """Run a sidecar before `stdio_program.py`; *stdio* are more fields of it."""
    mesh = Mesh(folder)
    mesh.write("policy.yaml", POLICY)
    # Without site-packages and the rest, a program starts in a tenth of the time.
    command = [PYTHON, "-I", "-S", str(PROGRAM), *flags]
    with mesh.run({"mcp": {"stdio": {"command": command, "endTimeout": "300ms", **stdio}}}) as one:
        yield World(one)
        assert "please report it" not in one.said(), one.said()
