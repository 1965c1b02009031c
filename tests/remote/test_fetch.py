"""One GET over loopback: what comes, and everything that may come instead."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from support.e2e import Mesh
from support.wire import Heard, Recorder, reply

from sidecar.remote.fetch import FetchError, fetch

BODY = b'{"keys":[]}'


def never() -> ssl.SSLContext:
    raise AssertionError("no TLS is asked for")


def got(
    url: str,
    most: int = 1000,
    seconds: float = 5.0,
    context: Callable[[], ssl.SSLContext] = never,
) -> bytes:
    return asyncio.run(fetch(url, most, seconds, context))


def why(url: str, most: int = 1000, seconds: float = 5.0) -> str:
    with pytest.raises(FetchError) as caught:
        got(url, most, seconds)
    return str(caught.value)


def test_a_document_comes_whole() -> None:
    with Recorder(lambda _: reply(BODY)) as server:
        assert got(f"{server.url}/keys?a=b") == BODY
        (heard,) = server.heard
    assert heard.start == "GET /keys?a=b HTTP/1.1"
    assert heard.get("host") == f"127.0.0.1:{server.port}"
    assert heard.get("connection") == "close"


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (CHUNKED, b"abc"),
        (b"HTTP/1.1 103 Early\r\n\r\n" + reply(BODY), BODY),
        (reply(b""), b""),
        (reply(b"x" * 1000), b"x" * 1000),
    ],
)
def test_bodies_come_as_http_sends_them(answer: bytes, wanted: bytes) -> None:
    with Recorder(lambda _: answer) as server:
        assert got(f"{server.url}/") == wanted


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (reply(BODY, "404 Not Found"), "answers 404"),
        (reply(BODY, "500 Oh"), "answers 500"),
        (reply(b"", "302 Found", (("location", "http://127.0.0.1:1/"),)), "answers 302"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "not HTTP"),
        (reply(b"x" * 1001), "longer than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000, "longer than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "not HTTP"),
        (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
        (b"", "not HTTP"),
    ],
    ids=range(10),
)
def test_what_is_no_document_says_why(answer: bytes, word: str) -> None:
    def answered(heard: Heard) -> bytes:
        # One that has no end by itself ends with the connection.
        heard.socket.sendall(answer)
        return b""

    with Recorder(answered) as server:
        assert word in why(f"{server.url}/keys?secret=1")


def test_a_server_that_says_nothing_is_waited_for_so_long() -> None:
    def silent(heard: Heard) -> bytes:
        heard.socket.recv(1)
        return b""

    with Recorder(silent) as server:
        assert why(server.url, seconds=0.05) == "it took longer than 0.05 s"


def test_a_server_that_is_not_there_is_said() -> None:
    with Recorder() as server:
        url = server.url
    assert "cannot be reached" in why(url)


def test_tls_is_verified(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    trusting = ssl.create_default_context(cafile=str(mesh.own.bundle))

    async def ask(context: ssl.SSLContext, host: str) -> bytes:
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(mesh.own.cert, mesh.own.key)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply(BODY))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, host, 0, ssl=serving)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await fetch(f"https://{host}:{port}/", 1000, 5.0, lambda: context)

    assert asyncio.run(ask(trusting, "127.0.0.1")) == BODY
    for context, host in (
        (ssl.create_default_context(), "127.0.0.1"),  # which knows no such CA
        (trusting, "127.0.0.2"),  # a name that the certificate does not have
    ):
        with pytest.raises(FetchError, match="TLS failed"):
            asyncio.run(ask(context, host))
