"""A caller's HTTP/2 connection in memory, what serves its streams, and who speaks at its other end.

line = Line(Served())
told = await line.ask("GET", "/a")
"""

from __future__ import annotations

from sidecar.errors import CallerGone
from sidecar.http.h1 import Request
from sidecar.http.head import ReplyHead
from sidecar.net.caller import UNKNOWN, Caller
from sidecar.net.downstream2 import Downstream2

from .callers import Callers
from .memory import Pipe, loop
from .speaker import Speaker, Told

BIG = b"x" * 200_000


def answer(status: int = 200) -> ReplyHead:
    return ReplyHead(status, b"HTTP/1.1 200 OK\r\n", (), [b"X-Said: yes\r\n"])


class Served:
    """Answers each request by its path, and keeps what it was asked and how that ended."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.ended: list[Exception | None] = []
        self.down: list[Caller] = []
        self.waits = False

    async def __call__(self, request: Request, down: Caller) -> None:
        self.requests.append(request)
        self.down.append(down)
        try:
            await self._answer(request, down)
        except Exception as fault:
            self.ended.append(fault)
            if type(fault) is CallerGone:
                raise
            down.abort()
        else:
            self.ended.append(None)

    async def _answer(self, request: Request, down: Caller) -> None:
        if request.fault is not None or request.head is None:
            status = request.fault.status if request.fault else 500
            down.reply(answer(status), 2, b"no")
            return
        path = request.head.start.path
        while self.waits or path == "/never":
            await down.wake
        if path == "/stream":
            down.begin(answer(), UNKNOWN, b"first")
            down.streaming = object()  # type: ignore[assignment]
            while True:
                await down.wake
        if path == "/pump":
            down.begin(answer(), len(BIG) * 5)
            for _ in range(5):
                down.send(BIG)
                while down.paused:
                    await down.wake
            down.end()
        elif path == "/trailers":
            down.begin(answer(), UNKNOWN, b"a body")
            down.end([(b"x-sum", b"1")])
        elif path == "/short":
            down.begin(answer(), 9, b"four")
            down.end()
        elif path == "/nothing":
            return
        else:
            body = BIG if path == "/big" else request.body or b"ok"
            down.reply(answer(), len(body), body)


class Line:
    """One connection and the speaker at its other end."""

    def __init__(
        self,
        served: Served,
        *,
        window: int | None = None,
        streams: int = 100,
        secure: bool = True,
    ) -> None:
        self.callers = Callers(served)
        self.speaker = Speaker(window=window)
        self.pipe: Pipe = self.callers.connect2(streams=streams, secure=secure)
        self.pipe.say(self.speaker.out())

    async def settle(self, seconds: float = 0.0) -> None:
        """Let everything happen that can, on both sides."""
        await loop().settle(seconds)
        while data := self.pipe.heard():
            answer = self.speaker.hear(data)
            if answer:
                self.pipe.say(answer)
            await loop().settle()

    async def ask(self, *asked: object, **how: object) -> Told:
        self.pipe.say(self.speaker.ask(*asked, **how))  # type: ignore[arg-type]
        told = self.speaker.replies[max(self.speaker.replies)]
        await self.settle()
        return told

    @property
    def down(self) -> Downstream2:
        protocol = self.pipe.protocol
        assert isinstance(protocol, Downstream2)
        return protocol
