"""The load: one process, one epoll, N mutual-TLS connections.

It reads an `Order` as JSON from its input and prints a `Yield` as JSON. The
proxy's CPU time is read here, at the two ends of the very window in which
requests are counted. It knows nothing of proxies, and it does not verify the
proxy's certificate: that would cost the load's CPU and is tried before.

Three ways of loading: `saturate` sends the next request as soon as a reply is
whole; `rate` sends at intended times, and latency counts from the intended
time, so that a slow reply is charged to every request it held up; `connect`
makes a new connection, handshake included, for each request.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter, process_time
from typing import Literal, TypeAlias

from race import measure, payload

Way = Literal["saturate", "rate", "connect"]
Reading: TypeAlias = tuple[float, float, float, float]
"""Seconds: the clock, the proxy's CPU time, its CPUs' busy time, the load's CPU time."""

MOST_ERRORS = 200
_READ = select.EPOLLIN | select.EPOLLRDHUP
_READ_BYTES = 65536
_LEAD_SECONDS = 0.2  # from the start to the first intended time: connections open in it
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True, slots=True)
class Order:
    """What load to make: times in seconds, *watch* a process to measure meanwhile.

    *streams* is how many requests a connection has at a time, where it may have many.
    """

    port: int
    chain: str
    key: str
    way: Way = "saturate"
    seconds: float = 2.0
    warmup: float = 0.4
    connections: int = 32
    rate: float = 1000.0
    body_bytes: int = 1024
    all_new: bool = False
    streams: int = 1
    watch: int = 0


@dataclass(frozen=True, slots=True)
class Yield:
    """What came of it, in the window after the warm-up: seconds, counts, microseconds.

    `cpu_share` is the proxy's share of its CPU, `others_share` what others took of it.
    """

    seconds: float
    requests: int
    refused: int
    errors: int
    unsent: int
    p50_us: float
    p99_us: float
    cpu_us: float
    cpu_share: float
    others_share: float
    rss_bytes: int
    load_cpu_us: float
    cipher: str
    fault: str


class TooManyErrors(Exception):
    """The proxy failed so often that a figure would mean nothing."""


class Load:
    """All connections, and what is counted of them."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.following = payload.requests(order.body_bytes, all_new=order.all_new)
        self.context = _context(order)
        self.epoll = select.epoll()
        self.steps: dict[int, Callable[[], None]] = {}
        self.connections: list[Connection] = []
        self.now = perf_counter()
        self.latencies: list[float] = []
        self.refused = 0
        self.errors = 0
        self.fault = ""
        self.cipher = ""

    def run(self) -> Yield:
        """Warm up, open the window, close it, and say what was counted."""
        for _ in range(self.order.connections):
            self.connections.append(self.connect())
        pace = Pace(self) if self.order.way == "rate" else None
        self._until(perf_counter() + self.order.warmup + _LEAD_SECONDS, pace)
        pids = measure.tree(self.order.watch) if self.order.watch else []
        begin = self._reading(pids)
        self.latencies, self.refused, self.errors = [], 0, 0
        self._until(begin[0] + self.order.seconds, pace)
        return self._harvest(begin, self._reading(pids), measure.rss_bytes(pids))

    def connect(self) -> Connection:
        """Return a new connection, on its way to be opened."""
        return Connection(self)

    def _reading(self, pids: list[int]) -> Reading:
        cpus = os.sched_getaffinity(pids[0]) if pids else ()
        busy = measure.busy_seconds(cpus)
        return perf_counter(), measure.cpu_seconds(pids), busy, process_time()

    def _until(self, end: float, pace: Pace | None) -> None:
        poll, steps = self.epoll.poll, self.steps
        while self.now < end:
            if pace:
                select.select([self.epoll], [], [], pace.send_due())
                events = poll(0)
            else:
                events = poll(0.02)
            self.now = perf_counter()
            for descriptor, _ in events:
                steps[descriptor]()

    def _harvest(
        self,
        begin: Reading,
        end: Reading,
        rss_bytes: int,
    ) -> Yield:
        wall, cpu, busy, load_cpu = (
            after - before for before, after in zip(begin, end, strict=True)
        )
        ordered = sorted(self.latencies)
        count = len(ordered)
        return Yield(
            seconds=wall,
            requests=count,
            refused=self.refused,
            errors=self.errors,
            unsent=sum(len(connection.waiting) for connection in self.connections),
            p50_us=_quantile(ordered, 0.50) * 1e6,
            p99_us=_quantile(ordered, 0.99) * 1e6,
            cpu_us=cpu / max(1, count) * 1e6,
            cpu_share=cpu / wall,
            others_share=max(0.0, busy - cpu) / wall,
            rss_bytes=rss_bytes,
            load_cpu_us=load_cpu / max(1, count) * 1e6,
            cipher=self.cipher,
            fault=self.fault,
        )

    def close(self) -> None:
        """Close every connection."""
        for connection in self.connections:
            connection.close()
        self.epoll.close()

    def failed(self, fault: str) -> None:
        """Count an error; raise TooManyErrors where there is no point in going on."""
        self.errors += 1
        self.fault = self.fault or fault
        if self.errors > MOST_ERRORS:
            raise TooManyErrors(self.fault)


class Pace:
    """The intended send times of a fixed rate, dealt to the connections in turn."""

    def __init__(self, load: Load) -> None:
        self._connections = load.connections
        self._interval = 1.0 / load.order.rate
        self._due = perf_counter() + _LEAD_SECONDS
        self._turn = 0

    def send_due(self) -> float:
        """Send, or put in line, all that is due; return the seconds until there is more."""
        now = perf_counter()
        while self._due <= now:
            self._connections[self._turn].send_or_wait(self._due)
            self._turn = (self._turn + 1) % len(self._connections)
            self._due += self._interval
        return max(0.0, self._due - perf_counter())


class Connection:
    """One connection; `step` is what the next event on its socket calls."""

    __slots__ = ("_load", "_out", "_reply", "_sent", "_socket", "busy", "waiting")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._socket: ssl.SSLSocket
        self._out = b""
        self._reply = b""
        self._sent = 0.0
        self.busy = True
        self.waiting: deque[float] = deque()  # bounded by rate x seconds
        self._open()

    def _open(self) -> None:
        """Connect, then shake hands as events come."""
        self.busy = True
        self._sent = perf_counter()
        try:
            self._socket = _dial(self._load.order.port, self._load.context)
        except OSError as error:
            raise TooManyErrors(f"cannot connect: {error}") from error
        self._load.epoll.register(self._socket, _READ)
        self._shake_hands()

    def _shake_hands(self) -> None:
        self._next(self._shake_hands)
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            return
        except OSError as error:
            self._reopen(f"handshake: {error}")
            return
        self._load.cipher = self._load.cipher or (self._socket.cipher() or ("",))[0]
        self._next(self._receive)
        self._ready(perf_counter())

    def _ready(self, now: float) -> None:
        """Do what comes after a handshake or a whole reply, at *now*."""
        self.busy = False
        way = self._load.order.way
        if way == "saturate":
            self._send(now)
        elif way == "connect":
            self._send(self._sent)
        elif self.waiting:
            self._send(self.waiting.popleft())

    def send_or_wait(self, due: float) -> None:
        """Send the request intended for *due* now, or once the connection is free."""
        if self.busy:
            self.waiting.append(due)
        else:
            self._send(due)

    def _send(self, since: float) -> None:
        self.busy, self._sent, self._reply = True, since, b""
        self._out = self._load.following()
        self._flush()
        if self._out:
            self._wait_for_room()

    def _flush(self) -> None:
        try:
            while self._out:
                self._out = self._out[self._socket.send(self._out) :]
        except ssl.SSLWantWriteError:
            pass
        except OSError as error:
            self._out = b""
            self._reopen(f"send: {error}")

    def _wait_for_room(self) -> None:
        self._next(self._room)
        self._load.epoll.modify(self._socket, _READ | select.EPOLLOUT)

    def _room(self) -> None:
        self._flush()
        if not self._out:
            self._next(self._receive)
            self._load.epoll.modify(self._socket, _READ)

    def _receive(self) -> None:
        try:
            received = self._socket.recv(_READ_BYTES)
        except ssl.SSLWantReadError:
            return
        except OSError as error:
            self._reopen(f"receive: {error}")
            return
        if not received or not self.busy:
            self._reopen("closed by the proxy" if self.busy else "")
            return
        self._reply = self._reply + received if self._reply else received
        if is_whole(self._reply):
            self._done()

    def _done(self) -> None:
        load, reply, now = self._load, self._reply, perf_counter()
        load.latencies.append(now - self._sent)
        if not reply.startswith(b"HTTP/1.1 200"):
            load.refused += 1
            load.fault = load.fault or reply[:60].decode("latin-1")
        if load.order.way == "connect" or b"\r\nconnection: close\r\n" in reply.lower():
            self._reopen("")
        else:
            self._ready(now)

    def _reopen(self, fault: str) -> None:
        self._load.epoll.unregister(self._socket)
        del self._load.steps[self._socket.fileno()]
        try:
            self._socket.unwrap()  # sends close_notify; the answer is not waited for
        except (OSError, ValueError):
            pass
        self._socket.close()
        if fault:
            self._load.failed(fault)
        self._open()

    def close(self) -> None:
        """Drop the connection without a word."""
        self._socket.close()

    def _next(self, step: Callable[[], None]) -> None:
        self._load.steps[self._socket.fileno()] = step


def _dial(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), 5)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setblocking(False)
    return context.wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False)


def is_whole(reply: bytes) -> bool:
    """Return whether *reply* holds a head and all of its body."""
    end = reply.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = reply[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return reply.endswith(b"\r\n0\r\n\r\n") or b"\r\ntransfer-encoding:" not in head
    return len(reply) - end - 4 >= int(head[at + 17 :].split(b"\r\n", 1)[0])


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _context(order: Order) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(order.chain, order.key)
    return context


def _sharpen_timers() -> None:
    """Let a sleep end when it should: the default slack, 50 us, would count as latency."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    except (OSError, AttributeError):
        pass


def main(kind: type[Load] = Load) -> int:
    """Read an order, carry it out, print what came of it."""
    order = Order(**json.load(sys.stdin))
    _sharpen_timers()
    load = kind(order)
    try:
        json.dump(asdict(load.run()), sys.stdout)
    except TooManyErrors as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        load.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
