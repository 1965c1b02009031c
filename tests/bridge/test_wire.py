"""The bridge's HTTP, over a pair of sockets: questions, answers, and whoever goes first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from sidecar.bridge.wire import Answer, Carrier, Question

POST = b"POST /mcp?x=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


class Conversation:
    """A carrier and the other end of its connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.asked: list[tuple[Question, Answer]] = []
        self.carrier: Carrier

    def take(self, question: Question, answer: Answer) -> None:
        self.asked.append((question, answer))

    async def next(self, count: int = 1) -> Answer:
        while len(self.asked) < count:
            await asyncio.sleep(0)
        return self.asked[count - 1][1]

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")


def talk(story: Callable[[Conversation], Awaitable[None]], most: int = 1_000) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=theirs)
        one = Conversation(reader, writer)
        one.carrier = Carrier(one.take, lambda: 5.0, most, 4_096)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: one.carrier, ours)
        try:
            async with asyncio.timeout(20):
                await story(one)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0.01)  # until both ends have seen it

    uvloop.run(run())


def test_one_question_after_the_other_on_one_connection() -> None:
    async def story(one: Conversation) -> None:
        one.writer.write(POST + POST)
        first = await one.next()
        question = one.asked[0][0]
        assert (question.method, question.path, question.body) == (b"POST", b"/mcp", b"{}")
        assert len(one.asked) == 1, "the second waits for the first"
        first.whole(200, b'{"a":1}')
        assert (await one.head()).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await one.reader.readexactly(7) == b'{"a":1}'
        (await one.next(2)).whole(202)
        assert b"content-length: 0\r\n" in await one.head()

    talk(story)


def test_a_stream_passes_as_it_is_written() -> None:
    async def story(one: Conversation) -> None:
        one.writer.write(POST)
        answer = await one.next()
        answer.stream()
        answer.event(b'{"n":1}', b"1-1", 6.0)
        head = await one.head()
        assert b"content-type: text/event-stream" in head
        assert b"x-accel-buffering: no" in head
        event = b'id: 1-1\ndata: {"n":1}\n\n'
        assert await one.reader.readuntil(b"\n\n") == b"%x\r\n%b" % (len(event), event)
        answer.end()
        assert await one.reader.readuntil(b"0\r\n\r\n") == b"\r\n0\r\n\r\n"

    talk(story)


def test_who_goes_first_is_told_of_once_and_what_is_written_then_goes_nowhere() -> None:
    async def story(one: Conversation) -> None:
        gone: list[int] = []
        one.writer.write(POST)
        answer = await one.next()
        answer.gone = lambda: gone.append(1)
        answer.stream()
        one.writer.close()
        while not gone:
            await asyncio.sleep(0)
        answer.event(b"{}")
        answer.end()
        answer.whole(200)
        assert (gone, answer.open) == ([1], False)

    talk(story)


def test_a_reader_that_does_not_read_is_known_and_told_of_when_it_does() -> None:
    async def story(one: Conversation) -> None:
        eased: list[int] = []
        one.writer.write(POST)
        answer = await one.next()
        answer.eased = lambda: eased.append(1)
        answer.stream()
        while not answer.behind:
            answer.event(b"x" * 10_000)
        while not eased:
            await one.reader.read(65_536)
        assert not answer.behind

    talk(story)


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", POST.replace(b": 2", b": 2000") + b"x" * 2_000, b"x" * 200_000],
)
def test_what_is_no_question_or_too_long_closes_the_connection(sent: bytes) -> None:
    async def story(one: Conversation) -> None:
        one.writer.write(sent)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await one.reader.readexactly(1)
        assert one.asked == []

    talk(story)


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        (b"By=spiffe://d/a;Hash=00;URI=spiffe://d/ns/x/sa/y", "spiffe://d/ns/x/sa/y"),
        (b"Hash=00;URI=spiffe://d/ns/x/sa/y", "spiffe://d/ns/x/sa/y"),
        (b"", ""),
    ],
)
def test_the_caller_is_who_the_proxy_names(header: bytes, caller: str) -> None:
    headers = {b"x-forwarded-client-cert": header} if header else {}
    assert Question(b"GET", b"/mcp", headers).caller == caller
