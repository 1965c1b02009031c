"""Lets the tests import the race as `bench/race.py` does, from the folder `bench`."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.http2_server import H2Server, Manners, Served

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from race import payload
from race.certs import Identities, mint
from race.upstream import Answer, response


class Recording(Answer):
    """The race's own upstream, which also remembers what it was sent."""

    def __init__(self, answers: dict[bytes, bytes], served: Served) -> None:
        super().__init__(answers)
        self._served = served

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._served.handshakes += 1
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._served.lost += 1

    def data_received(self, data: bytes) -> None:
        self._served.requests.append(data)
        super().data_received(data)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    # The load leaves its connections as they are when it ends, some in the midst of their
    # handshake. Those are known to nobody here, so they can't be closed, and the collector
    # may come by while the test still runs.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return mint(tmp_path_factory.mktemp("race") / "certs")


@pytest.fixture
def served(identities: Identities) -> Iterator[Served]:
    """Answer every call with 200, for callers that have a certificate."""
    yield from _serve_http1(identities, response(200, payload.reply(300)))


@pytest.fixture
def refusing(identities: Identities) -> Iterator[Served]:
    """Answer every call with 403."""
    yield from _serve_http1(identities, response(403, "{}"))


@pytest.fixture
def serving_http2(identities: Identities) -> Iterator[Callable[[Manners], Served]]:
    """Give a function that starts a server of HTTP/2 with certain manners."""
    with ExitStack() as stack:

        def start(manners: Manners) -> Served:
            running = contextmanager(_serve)(
                identities, lambda served: H2Server(manners, served), "h2"
            )
            return stack.enter_context(running)

        yield start


def _serve_http1(identities: Identities, answer: bytes) -> Iterator[Served]:
    answers = {payload.PATH.encode(): answer}
    yield from _serve(identities, lambda served: Recording(answers, served))


def _serve(
    identities: Identities, make: Callable[[Served], asyncio.Protocol], *protocols: str
) -> Iterator[Served]:
    served, ready = Served(), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        server = await loop.create_server(
            lambda: make(served),
            "127.0.0.1",
            0,
            ssl=_context(identities, protocols),
        )
        served.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        for _ in range(300):  # until all callers are gone, three seconds at the most
            if served.lost == served.handshakes and len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.01)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(20)
    yield served
    loop.call_soon_threadsafe(stop.set)
    thread.join(5)
    with warnings.catch_warnings():
        # What was left half-way goes now, and not in the midst of another test.
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        gc.collect()


def _context(identities: Identities, protocols: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identities.server.chain, identities.server.key)
    context.load_verify_locations(identities.server.bundle)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    if protocols:
        context.set_alpn_protocols(protocols)
    return context
