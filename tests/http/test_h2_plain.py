"""Without the lane: what is installed is known, what is not goes hyper-h2's way, and is served."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import h2
import hpack
import pytest
from h2.connection import H2Connection
from h2.stream import H2Stream
from hpack import Decoder

from sidecar.http.h2 import Data, Event, Head, Http2
from sidecar.http.h2_lane import Lane
from sidecar.http.h2_plain import H2, HPACK, Plain, strange
from sidecar.http.head import ReplyHead

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
REQUEST = b"POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 4\r\n\r\nbody"
LONG = b"x" * 100_000


def test_what_is_installed_is_known_to_the_lane() -> None:
    """Who lets a newer one in reads what became of its insides, and runs test_h2_lane."""
    assert strange() == ""
    assert type(Http2(0.0, server=True)._h2) is Lane


@pytest.mark.parametrize(("name", "known"), [("h2", H2), ("hpack", HPACK)])
def test_no_version_is_asked_for_that_is_not_known(name: str, known: str) -> None:
    [wanted] = [one for one in PROJECT["dependencies"] if re.match(rf"{name}\b", one)]
    least, below = re.fullmatch(rf"{name}>=([0-9.]+),<([0-9.]+)", wanted).groups()  # type: ignore[union-attr]
    major, minor = known.split(".")[:2]
    assert least.startswith(known)
    assert below == f"{major}.{int(minor) + 1}"


@pytest.mark.parametrize(
    ("module", "version"), [(h2, "4.5.0"), (h2, "4.40.1"), (h2, "5.4.4"), (hpack, "4.3.0")]
)
def test_another_version_is_strange(
    module: object, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__version__", version)
    assert version in strange()


@pytest.mark.parametrize(
    ("owner", "made", "name"),
    [
        (H2Connection, "__init__", "_data_to_send"),
        (H2Connection, "__init__", "incoming_buffer"),
        (H2Connection, "__init__", "decoder"),
        (H2Stream, "__init__", "_authority"),
        (H2Stream, "__init__", "state_machine"),
        (Decoder, "__init__", "header_table"),
    ],
)
def test_insides_that_are_not_there_are_strange(
    owner: type, made: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = getattr(owner, made)

    def without(self: object, *given: object, **named: object) -> None:
        first(self, *given, **named)
        delattr(self, name)

    monkeypatch.setattr(owner, made, without)
    assert f"{owner.__name__}.{name}" in strange()


def test_whole_exchanges_go_without_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.http.h2._BY", Plain)
    server, client = Http2(0.0, server=True), Http2(0.0, server=False)
    met(client, server)
    for _ in range(3):
        number = client.open()
        client.ask(number, REQUEST, b"https")
        [head, body] = [one for one in met(client, server)[1] if isinstance(one, Head | Data)]
        assert isinstance(head, Head)
        assert dict(map(tuple, head.fields))[b":path"] == b"/a"
        assert isinstance(body, Data)
        assert (body.data, body.ended) == (b"body", True)
        server.answer(number, ReplyHead(200, b"", (), [b"X-Odd: 1\r\n"]), len(LONG), end=False)
        server.body(number, LONG, end=True)
        heard = met(client, server)[0]
        [told] = [one for one in heard if isinstance(one, Head)]
        assert (b"x-odd", b"1") in list(map(tuple, told.fields))
        assert b"".join(one.data for one in heard if isinstance(one, Data)) == LONG


def met(client: Http2, server: Http2) -> tuple[list[Event], list[Event]]:
    """Have both say all they have to; return what the client heard, and the server."""
    heard: tuple[list[Event], list[Event]] = ([], [])
    sides = ((server, client, heard[0]), (client, server, heard[1]))
    while said := [(to, events, data) for by, to, events in sides if (data := by.out())]:
        for to, events, data in said:
            to.feed(data)
            more = True
            while more:
                found, more = to.turn(0.0)
                events += found
                for one in found:
                    if isinstance(one, Data):
                        to.taken(one.stream, one.size)
    return heard
