"""The CA's server over real sockets: what it answers, what it refuses, what it survives."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from sidecar.ca.desk import MAX_BODY, Desk
from sidecar.ca.ledger import entries
from sidecar.ca.store import key_pem, make_ca, new_key
from sidecar.ca.turnover import load_root_key, rotate
from sidecar.remote.ca_client import _request
from sidecar.remote.ca_server import CaServer, neighbourhood
from sidecar.spiffe.id import SpiffeId

FILES = SpiffeId.of_short("mcp-prod/files")


class Site:
    """A CA's server in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = make_ca(folder, "cluster.local", time.time())
        self.said: list[str] = []
        self.port = 0

    @contextmanager
    def serving(self) -> Iterator[Site]:
        started, loop = threading.Event(), asyncio.new_event_loop()
        ending = asyncio.Event()

        async def serve() -> None:
            desk = Desk(self.folder, ttl=3600, grace=60, refresh=30)
            server = CaServer(desk, time.time, self.said.append, self._report)
            await server.start("127.0.0.1:0")
            self.port = int(server.address.rpartition(":")[2])
            started.set()
            await ending.wait()
            await server.stop()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(ending.set)
            thread.join(10)

    def _report(self, what: str, fault: BaseException) -> None:
        self.said.append(f"a fault in {what}: {fault!r}")

    def context(self, ttl: float = 0, ca: Any = None) -> ssl.SSLContext:
        """Return a context; with *ttl*, one that shows a certificate of *ca* (this one's)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.folder / "root.pem")
        if ttl:
            key = new_key()
            issued = (ca or self.ca).issue(FILES, key.public_key(), ttl=ttl, now=time.time())
            path = self.folder / "shown.pem"
            path.write_bytes(issued.chain + key_pem(key))
            context.load_cert_chain(path)
        return context

    def ask(
        self, method: str, path: str, body: Any = None, context: ssl.SSLContext | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context or self.context(), timeout=20
        )
        try:
            data = body if isinstance(body, bytes) else json.dumps(body) if body else None
            connection.request(method, path, data)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site") / "ca").serving() as running:
        yield running


def renewal() -> dict[str, str]:
    return {"csr": _request(new_key())}


def test_its_own_certificate_names_the_ca_and_is_of_a_key_that_is_on_no_disk(site: Site) -> None:
    leaf = shown(site)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ca"
    ]
    keys = [path.name for path in site.folder.rglob("*_key.pem")]
    assert sorted(keys) == ["intermediate_key.pem", "root_key.pem"]


def test_bundle_and_deny_list_are_for_everybody(site: Site) -> None:
    status, bundle = site.ask("GET", "/v1/bundle")
    assert (status, len(bundle["keys"]), bundle["spiffe_refresh_hint"]) == (200, 1, 30)
    status, denied = site.ask("GET", "/v1/revocations?x=1")
    assert (status, denied["ids"], denied["refresh_hint"]) == (200, [], 30)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/v1/join"), ("POST", "/v1/bundle"), ("GET", "/v1/../root_key.pem")],
)
def test_there_is_nothing_else(site: Site, method: str, path: str) -> None:
    assert site.ask(method, path)[0] == 404


def test_who_asks_for_a_head_alone_is_told_that_and_no_more(site: Site) -> None:
    assert site.ask("HEAD", "/v1/bundle") == (404, None)


def test_a_question_that_is_too_long_is_refused(site: Site) -> None:
    assert site.ask("POST", "/v1/join", b"x" * (MAX_BODY + 1))[0] == 413


def test_renewal_needs_the_certificate(site: Site) -> None:
    status, answer = site.ask("POST", "/v1/renew", renewal())
    assert (status, answer["reason"]) == (401, "no_certificate")
    status, answer = site.ask("POST", "/v1/renew", renewal(), site.context(ttl=600))
    assert status == 200
    leaf = x509.load_pem_x509_certificate(answer["certificate"].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(FILES)]


def test_a_certificate_that_has_just_ended_renews_itself(site: Site) -> None:
    context = site.context(ttl=1)
    time.sleep(1.1)
    assert site.ask("POST", "/v1/renew", renewal(), context)[0] == 200


def test_a_strangers_certificate_does_not_get_as_far_as_a_question(
    site: Site, tmp_path: Path
) -> None:
    foreign = make_ca(tmp_path / "ca", "cluster.local", time.time())
    with pytest.raises(OSError):
        site.ask("POST", "/v1/renew", renewal(), site.context(ttl=600, ca=foreign))


def test_older_tls_is_refused(site: Site) -> None:
    context = site.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        site.ask("GET", "/v1/bundle", context=context)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /v1/bundle HTTP/1.1\r\nhost: x\r\n\r\n",  # without TLS
        b"\x16\x03\x01\x02\x00" + b"x" * 600,
    ],
)
def test_what_is_no_tls_is_closed(site: Site, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", site.port)) as raw:
        raw.settimeout(20)
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        assert b"HTTP" not in raw.recv(4096)
    assert site.ask("GET", "/v1/bundle")[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"POST /v1/join HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}",
        b"GET /v1/bundle HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"POST /v1/join HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{}",
    ],
)
def test_what_is_no_http_is_closed(site: Site, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", site.port)) as raw:
        raw.settimeout(20)
        with site.context().wrap_socket(raw) as secure:
            secure.sendall(data)
            secure.unwrap() if data.endswith(b"{}") else None
            try:
                said = secure.recv(65_536)
            except (OSError, ValueError):
                said = b""
            assert b"200 OK" not in said
    assert site.ask("GET", "/v1/bundle")[0] == 200
    assert not any("a fault" in line for line in site.said), site.said


def test_many_silent_connections_do_not_keep_others_out(site: Site) -> None:
    silent = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(150)]
    try:
        with pytest.raises(OSError):  # so many from one address is enough
            site.ask("GET", "/v1/bundle")
        raw = socket.create_connection(
            ("127.0.0.1", site.port), timeout=20, source_address=("127.0.0.9", 0)
        )
        with site.context().wrap_socket(raw) as secure:
            secure.sendall(b"GET /v1/bundle HTTP/1.1\r\nhost: ca\r\n\r\n")
            assert secure.recv(12) == b"HTTP/1.1 200"
    finally:
        for one in silent:
            one.close()


def test_after_a_rotation_it_shows_a_certificate_of_the_new_intermediate(tmp_path: Path) -> None:
    with Site(tmp_path / "ca").serving() as site:
        new, _ = rotate(
            site.folder, load_root_key(site.folder, None, None), time.time(), life=86400
        )
        wanted = new.issuer.certificate.opened.subject
        deadline = time.monotonic() + 15
        while shown(site).issuer != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    own = [one.facts for one in entries(site.folder) if one.facts.get("by") == "server"]
    assert len(own) == 2


def shown(site: Site) -> x509.Certificate:
    """Return the certificate that the server shows."""
    raw = socket.create_connection(("127.0.0.1", site.port))
    with site.context().wrap_socket(raw) as secure:
        assert secure.version() == "TLSv1.3"
        return x509.load_der_x509_certificate(secure.getpeercert(True) or b"")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_whoever_has_a_network_of_addresses_counts_as_one(one: str, other: str, same: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is same
