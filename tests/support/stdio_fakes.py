"""A program and a connection that only note what is done with them, for tests without either."""

from __future__ import annotations

import json
from typing import Any

from sidecar.bridge.wire import Answer
from sidecar.mcp.message import Message, parse


class FakeChild:
    """A program that says nothing; *room* is whether it reads."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.room = True
        self.held = False
        self.ended = ""

    def tell(self, line: bytes) -> bool:
        if self.room:
            assert line.endswith(b"\n")
            self.told.append(json.loads(line))
        return self.room

    def hold(self, held: bool) -> None:
        self.held = held

    def end(self, why: str) -> None:
        self.ended = why


class FakeCarrier:
    """A connection; *full* while its reader does not read."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.whole = False
        self.full = False

    def write_head(self, status: int, headers: Any) -> None:
        assert not self.status, "two heads"
        self.status, self.headers = status, dict(headers)

    def write(self, data: bytes) -> None:
        assert self.status
        assert not self.whole
        self.body += data

    def write_end(self, body: bytes) -> None:
        self.write(body)
        self.whole = True


class Asked:
    """A question under way: its answer, and what came of it."""

    def __init__(self, now: float = 0.0) -> None:
        self.carrier = FakeCarrier()
        self.answer = Answer(self.carrier, now)  # type: ignore[arg-type]

    @property
    def status(self) -> int:
        return self.carrier.status

    @property
    def json(self) -> Any:
        """The whole answer."""
        assert self.carrier.whole
        assert self.carrier.headers[b"content-type"] == b"application/json"
        assert int(self.carrier.headers[b"content-length"]) == len(self.carrier.body)
        return json.loads(self.carrier.body)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """The events so far that have data: id and message."""
        assert self.carrier.headers[b"content-type"] == b"text/event-stream"
        found = []
        for event in self.carrier.body.decode().split("\n\n"):
            fields = dict(line.partition(": ")[::2] for line in event.split("\n"))
            if fields.get("data"):
                found.append((fields.get("id", ""), json.loads(fields["data"])))
        return found


def message(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode()


def call(id: object, token: object = None, method: str = "tools/call") -> tuple[Message, bytes]:
    """Return a call, parsed and as bytes."""
    meta = {} if token is None else {"_meta": {"progressToken": token}}
    body = message(id=id, method=method, params={"name": "x", **meta})
    return parse(body), body
