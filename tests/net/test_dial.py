"""TLS to servers, over loopback: who is believed, who is not and why, and what they are shown."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.mint import Files, Mint

from sidecar.errors import IdentityError
from sidecar.net.dial import Dialler, Secured
from sidecar.net.tls import Identity, Pair, make_identity
from sidecar.spiffe.bundle import Bundles, TrustBundle
from sidecar.spiffe.svid import verify
from sidecar.upstream.cluster import TlsMode, TlsSpec
from sidecar.upstream.endpoint import Endpoint

NOW = time.time()
FILES = "spiffe://cluster.local/ns/mcp-prod/sa/files"
MESH = TlsSpec(TlsMode.ISTIO_MUTUAL, "files.mesh", (FILES,))


@pytest.fixture(scope="module")
def mint(tmp_path_factory: pytest.TempPathFactory) -> Mint:
    return Mint(tmp_path_factory.mktemp("mint"), now=NOW)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Mint:
    return Mint(tmp_path_factory.mktemp("other"), "other.test", now=NOW)


def identity_of(mint: Mint, *others: Mint, life: float = 3600) -> Identity:
    files = mint.leaf("agent/alice", not_after=life)
    bundles = Bundles.of(
        [TrustBundle.from_pem(one.root_pem, one.trust_domain) for one in (mint, *others)]
    )
    pair = Pair(files.cert.read_bytes(), files.key.read_bytes())
    return make_identity(verify(files.chain, bundles, NOW), bundles, pair, NOW)


@dataclass
class Server:
    """Answers one handshake after the other with the certificate of *files*."""

    files: Files
    trusts: Path | None = None  # whose clients it asks for, if it asks
    alpn: tuple[str, ...] = ("http/1.1",)
    callers: list[tuple[str, ...]] = field(default_factory=list)  # their URI SANs, and what is said
    names: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def on(self, where: str = "") -> AsyncIterator[Endpoint]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.files.cert, self.files.key)
        context.set_alpn_protocols(list(self.alpn))
        context.sni_callback = lambda connection, name, context: self.names.append(name or "")
        if self.trusts is not None:
            context.load_verify_locations(self.trusts)
            context.verify_mode = ssl.CERT_REQUIRED
        if where:
            serving = await asyncio.start_unix_server(self._serve, where, ssl=context)
            endpoint = Endpoint(f"unix:{where}")
        else:
            serving = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
            endpoint = Endpoint(f"127.0.0.1:{serving.sockets[0].getsockname()[1]}")
        try:
            yield endpoint
        finally:
            serving.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object").getpeercert() or {}
        sans = tuple(value for kind, value in shown.get("subjectAltName", ()) if kind == "URI")
        writer.write(b"too soon")
        said = await reader.read(100)
        self.callers.append((*sans, said.decode()))
        writer.close()


@dataclass
class Dialling:
    """A dialler, and what it told of failures."""

    identity: Identity | None
    told: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dialler = Dialler(
            lambda: self.identity,
            time.time,
            lambda endpoint, reason, detail: self.told.append((reason, detail)),
        )

    async def refused(self, endpoint: Endpoint, spec: TlsSpec) -> str:
        """Dial, be refused, and return for which reason; nothing must have been sent."""
        with pytest.raises((OSError, IdentityError)):
            await self.dialler.open(endpoint, spec)
        (told,) = self.told
        return told[0]


class Listening(asyncio.Protocol):
    """What goes on with a connection: it keeps what comes."""

    def __init__(self) -> None:
        self.data = b""
        self.came = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.came.set()


async def goes_on(secured: Secured) -> bytes:
    """Take a connection over, as an upstream does; return what came first, and leave."""
    listening = Listening()
    await asyncio.sleep(0.05)  # what the server says meanwhile must wait
    secured.transport.set_protocol(listening)
    secured.transport.resume_reading()
    async with asyncio.timeout(10):
        await listening.came.wait()
    secured.transport.write(b"hello")
    secured.transport.close()
    return listening.data


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runs(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return runs


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_who_is_meant_is_shown_our_certificate_and_loses_no_byte(
    mint: Mint, tmp_path: Path, run: Run, unix: bool
) -> None:
    async def main() -> None:
        server = Server(mint.leaf("mcp-prod/files"), trusts=mint.leaf().bundle)
        async with server.on(str(tmp_path / "s") if unix else "") as endpoint:
            secured = await Dialling(identity_of(mint)).dialler.open(endpoint, MESH)
            assert secured.protocol == "http/1.1"
            left = NOW + 3600 - time.time()  # of certificates that are as old as this module
            assert 0.8 * left < secured.life < 0.91 * left
            assert await goes_on(secured) == b"too soon"
            async with asyncio.timeout(10):
                while not server.callers:
                    await asyncio.sleep(0.01)
        assert server.callers == [("spiffe://cluster.local/ns/agent/sa/alice", "hello")]
        assert server.names == ["files.mesh"]

    run(main())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("expired", "expired"),
        ("not_yet_valid", "not_yet_valid"),
        ("two_uri_sans", "two_uri_sans"),
        ("no_uri_san", "no_uri_san"),
        ("other_trust_domain", "other_trust_domain"),
        ("wrong_purpose", "wrong_purpose"),
        ("unknown_ca", "unknown_ca"),
        ("not_a_spiffe_id", "not_a_spiffe_id"),
        ("no_path", "no_path"),
    ],
)
def test_a_server_whose_certificate_is_wrong_is_refused_by_its_reason(
    mint: Mint, fault: str, reason: str, run: Run
) -> None:
    async def main() -> None:
        async with Server(mint.wrong(fault, "mcp-prod/files")).on() as endpoint:
            assert await Dialling(identity_of(mint)).refused(endpoint, MESH) == reason

    run(main())


def test_another_workload_of_the_mesh_is_not_who_was_meant(mint: Mint, run: Run) -> None:
    async def main() -> None:
        server = Server(mint.leaf("mcp-prod/mails"))
        async with server.on() as endpoint:
            dialling = Dialling(identity_of(mint))
            assert await dialling.refused(endpoint, MESH) == "other_identity"
            assert "sa/mails` answered, which is none of `spiffe://" in dialling.told[0][1]
            nobody = Dialling(identity_of(mint))
            assert await nobody.refused(endpoint, replace(MESH, names=())) == "other_identity"
        await asyncio.sleep(0.05)
        assert [said for *_, said in server.callers] in ([], [""], ["", ""])

    run(main())


def test_a_right_name_of_another_domain_is_believed_only_with_its_bundle(
    mint: Mint, other: Mint, run: Run
) -> None:
    wanted = replace(MESH, names=("spiffe://other.test/ns/mcp-prod/sa/files",))

    async def main() -> None:
        async with Server(other.leaf("mcp-prod/files")).on() as endpoint:
            assert await Dialling(identity_of(mint)).refused(endpoint, wanted) == "unknown_ca"
            knowing = Dialling(identity_of(mint, other))
            (await knowing.dialler.open(endpoint, wanted)).transport.abort()
        # The bundle of one domain vouches for no name of another one.
        borrowed = other.leaf(uri=[FILES])
        async with Server(borrowed).on() as endpoint:
            knowing = Dialling(identity_of(mint, other))
            assert await knowing.refused(endpoint, MESH) == "other_trust_domain"

    run(main())


def test_without_an_identity_nobody_is_called(mint: Mint, run: Run) -> None:
    async def main() -> None:
        async with Server(mint.leaf("mcp-prod/files")).on() as endpoint:
            assert await Dialling(None).refused(endpoint, MESH) == "no_identity"

    run(main())


def test_a_server_that_speaks_no_tls_is_refused(mint: Mint, run: Run) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main() -> None:
        serving = await asyncio.start_server(plain, "127.0.0.1", 0)
        endpoint = Endpoint(f"127.0.0.1:{serving.sockets[0].getsockname()[1]}")
        assert await Dialling(identity_of(mint)).refused(endpoint, MESH) == "plaintext"
        serving.close()

    run(main())


def test_nobody_there_is_no_failed_handshake(mint: Mint, run: Run) -> None:
    async def main() -> None:
        dialling = Dialling(identity_of(mint))
        with pytest.raises(ConnectionRefusedError):
            await dialling.dialler.open(Endpoint("127.0.0.1:1"), MESH)
        assert not dialling.told

    run(main())


def test_a_new_identity_is_shown_to_the_next_server(mint: Mint, run: Run) -> None:
    async def main() -> None:
        server = Server(mint.leaf("mcp-prod/files"))
        dialling = Dialling(identity_of(mint))
        async with server.on() as endpoint:
            for life in (3600, 1000):
                dialling.identity = identity_of(mint, life=life)
                secured = await dialling.dialler.open(endpoint, MESH)
                assert secured.life < life * 0.91
                secured.transport.abort()

    run(main())


SIMPLE = TlsSpec(TlsMode.SIMPLE)


@pytest.mark.parametrize(
    ("dns", "spec", "reason"),
    [
        (["api.example"], replace(SIMPLE, sni="api.example"), ""),
        (["127.0.0.1"], SIMPLE, ""),
        (["*.example"], replace(SIMPLE, sni="x", names=("api.example",)), "wrong_name"),
        (["*.ab.example"], replace(SIMPLE, sni="x", names=("nobody", "API.ab.example.")), ""),
        (["*.ab.example"], replace(SIMPLE, sni="x", names=("a.b.ab.example",)), "wrong_name"),
        (["10.0.0.1"], replace(SIMPLE, sni="x", names=("10.0.0.1",)), ""),
        (["api.example"], replace(SIMPLE, sni="x", names=("spiffe://ab/c", FILES)), ""),
        (["api.example"], replace(SIMPLE, sni="other.example"), "wrong_name"),
        (["api.example"], SIMPLE, "wrong_name"),
        (["api.example"], replace(SIMPLE, sni="api.example", names=("other",)), "wrong_name"),
    ],
    ids=str,
)
def test_elsewhere_a_server_is_known_by_its_name(
    mint: Mint, dns: list[str], spec: TlsSpec, reason: str, run: Run
) -> None:
    async def main() -> None:
        files = mint.leaf("mcp-prod/files", dns=dns)
        wanted = replace(spec, ca=str(files.bundle))
        async with Server(files).on() as endpoint:
            dialling = Dialling(None)
            if reason:
                assert await dialling.refused(endpoint, wanted) == reason
                return
            secured = await dialling.dialler.open(endpoint, wanted)
            assert secured.life == float("inf")
            secured.transport.abort()

    run(main())


def test_roots_that_are_not_named_are_not_believed(mint: Mint, other: Mint, run: Run) -> None:
    async def main() -> None:
        async with Server(mint.leaf(dns=["127.0.0.1"])).on() as endpoint:
            assert await Dialling(None).refused(endpoint, SIMPLE) == "unknown_ca"
            foreign = replace(SIMPLE, ca=str(other.leaf().bundle))
            assert await Dialling(None).refused(endpoint, foreign) == "unknown_ca"

    run(main())


def test_a_certificate_from_files_is_shown_and_read_again_once_it_changes(
    mint: Mint, tmp_path: Path, run: Run
) -> None:
    async def main() -> None:
        server = Server(mint.leaf(dns=["127.0.0.1"]), trusts=mint.leaf().bundle)
        first = mint.leaf("agent/first", folder=tmp_path / "own")
        spec = TlsSpec(
            TlsMode.MUTUAL, ca=str(first.bundle), certificate=str(first.cert), key=str(first.key)
        )
        dialling = Dialling(None)
        async with server.on() as endpoint:
            for name in ("first", "first", "second"):
                mint.leaf(f"agent/{name}", folder=tmp_path / "own")
                await goes_on(await dialling.dialler.open(endpoint, spec))
            async with asyncio.timeout(10):
                while len(server.callers) < 3:
                    await asyncio.sleep(0.01)
        assert [uri.rpartition("/")[2] for uri, _ in server.callers] == ["first", "first", "second"]

    run(main())


def test_files_that_are_gone_are_a_fault_of_this_connection_only(
    mint: Mint, tmp_path: Path, run: Run
) -> None:
    async def main() -> None:
        async with Server(mint.leaf(dns=["127.0.0.1"])).on() as endpoint:
            with pytest.raises(FileNotFoundError):
                await Dialling(None).dialler.open(
                    endpoint, replace(SIMPLE, ca=str(tmp_path / "none.pem"))
                )

    run(main())
