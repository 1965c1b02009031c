"""An identity is replaced while it is used, and a broken one is never taken."""

from __future__ import annotations

import re
import shutil
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from support.daemon import free_port, issue
from support.e2e import Daemon, Mesh, client_context
from support.mint import Files, Mint
from support.wire import Caller, Heard, Recorder, eventually, request, rpc

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/agent/sa/alice", "other.test/ns/agent/sa/alice"]
"""
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Mint:
    """Another mesh, whose callers are known here."""
    return Mint(tmp_path_factory.mktemp("other"), "other.test")


@pytest.fixture(scope="module")
def started(
    server: Recorder, foreign: Mint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("rotation"))
    mesh.write("policy.yaml", POLICY)
    write_bundle(mesh, foreign)
    bundles = {"other.test": "./other.pem"}
    with mesh.run({"mcp": {"to": server.url}}, trustBundles=bundles) as running:
        yield running


@pytest.fixture
def daemon(started: Daemon, foreign: Mint) -> Iterator[Daemon]:
    """The one sidecar of this module; its files are put back after each test."""
    with started.caller("agent/alice") as before:
        first = served(before)
    kept = {path.name: path.read_bytes() for path in started.mesh.own.folder.iterdir()}
    yield started
    for name, data in kept.items():
        replace(started.mesh.own.folder / name, data)
    write_bundle(started.mesh, foreign)
    started.reload()
    wait_served(started, first)


def write_bundle(mesh: Mesh, mint: Mint) -> None:
    replace(mesh.folder / "other.pem", mint.root_pem)


def replace(path: Path, data: bytes) -> None:
    """Put *data* in the place of *path* in one step."""
    staged = path.with_name(path.name + ".new")
    staged.touch(mode=0o600)
    staged.write_bytes(data)
    staged.chmod(0o600 if "key" in path.name else 0o644)
    staged.rename(path)


def install(mesh: Mesh, files: Files) -> None:
    """Put the identity *files* in the place of the sidecar's own."""
    for new, old in zip(
        (files.key, files.cert, files.bundle),
        (mesh.own.key, mesh.own.cert, mesh.own.bundle),
        strict=True,
    ):
        replace(old, new.read_bytes())


def served(caller: Caller) -> int:
    """The serial of the certificate that the sidecar showed on this connection."""
    assert isinstance(caller.sock, ssl.SSLSocket)
    der = caller.sock.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def wait_served(daemon: Daemon, serial: int) -> None:
    def look() -> bool:
        try:
            with daemon.caller("agent/alice") as alice:
                return served(alice) == serial
        except ssl.SSLError:
            return False

    eventually(look, f"the certificate {serial:x}", patience=10)


def ping(caller: Caller) -> int:
    return caller.ask("POST", "/mcp", rpc("ping")).status


# -- files that change


def test_new_files_are_loaded_and_no_connection_is_dropped(
    daemon: Daemon, server: Recorder
) -> None:
    fresh = daemon.mesh.mint.leaf("mcp-prod/files")
    with daemon.caller("agent/alice") as open_before:
        assert ping(open_before) == 200
        install(daemon.mesh, fresh)
        wait_served(daemon, fresh.leaf.serial_number)
        assert ping(open_before) == 200
        assert served(open_before) != fresh.leaf.serial_number
    expiry = fresh.leaf.not_valid_after_utc.timestamp()
    assert daemon.stats()["server.certificate_expiry_seconds"] == expiry


def test_new_files_are_loaded_under_load_without_a_failed_call(daemon: Daemon) -> None:
    fresh = [daemon.mesh.mint.leaf("mcp-prod/files") for _ in range(2)]
    for files in fresh:
        install(daemon.mesh, files)
        deadline = time.monotonic() + 10
        while True:
            with daemon.caller("agent/alice") as alice:
                assert ping(alice) == 200
                if served(alice) == files.leaf.serial_number:
                    break
            assert time.monotonic() < deadline


def other_key(mesh: Mesh) -> None:
    replace(mesh.own.key, mesh.mint.leaf().key.read_bytes())


def no_key(mesh: Mesh) -> None:
    replace(mesh.own.key, b"")


def half_a_certificate(mesh: Mesh) -> None:
    replace(mesh.own.cert, mesh.own.cert.read_bytes()[:300])


def stale(mesh: Mesh) -> None:
    install(mesh, mesh.mint.wrong("expired", "mcp-prod/files"))


def of_another_ca(mesh: Mesh) -> None:
    install(mesh, mesh.mint.wrong("unknown_ca", "mcp-prod/files"))


def empty_bundle(mesh: Mesh) -> None:
    replace(mesh.own.bundle, b"")


def bundle_gone(mesh: Mesh) -> None:
    mesh.own.bundle.unlink()


def readable_key(mesh: Mesh) -> None:
    install(mesh, mesh.mint.leaf("mcp-prod/files"))
    mesh.own.key.chmod(0o644)


def foreign_roots_broken(mesh: Mesh) -> None:
    replace(mesh.folder / "other.pem", b"-----BEGIN CERTIFICATE-----\n")


BREAKS = [other_key, no_key, half_a_certificate, stale, of_another_ca]
BREAKS += [empty_bundle, bundle_gone, readable_key, foreign_roots_broken]
COMPLAINT = re.compile("the old (identity|trust bundle of `other.test`) stays")


@pytest.mark.parametrize("breaks", BREAKS)
def test_files_that_prove_nothing_leave_the_old_identity_in_use(daemon: Daemon, breaks) -> None:
    with daemon.caller("agent/alice") as alice:
        first = served(alice)
        said = len(daemon.said())
        breaks(daemon.mesh)
        if breaks is not other_key:  # that one is found without being told to look
            daemon.process.signal(signal.SIGHUP)
        eventually(lambda: COMPLAINT.search(daemon.said(), said), "a complaint")
        assert ping(alice) == 200
    with daemon.caller("agent/alice") as alice:
        assert served(alice) == first
        assert ping(alice) == 200
    assert daemon.page("/readyz")[0] == 200
    assert daemon.process.is_alive()


def test_a_reload_looks_at_the_files_at_once(daemon: Daemon) -> None:
    fresh = daemon.mesh.mint.leaf("mcp-prod/files")
    install(daemon.mesh, fresh)
    daemon.reload()
    with daemon.caller("agent/alice") as alice:
        assert served(alice) == fresh.leaf.serial_number


# -- roots


def test_a_root_that_is_taken_out_opens_to_nobody(daemon: Daemon) -> None:
    old = daemon.mesh.context(daemon.mesh.mint.leaf())
    mint = Mint(daemon.mesh.folder / "mint-2")
    fresh = mint.leaf("mcp-prod/files")
    install(daemon.mesh, fresh)
    new = client_context(mint.leaf("agent/alice"), fresh.bundle)

    def look() -> bool:
        try:
            with daemon.caller(new) as alice:
                return ping(alice) == 200
        except (ssl.SSLError, AssertionError):
            return False

    eventually(look, "the new root", patience=10)
    old.load_verify_locations(fresh.bundle)
    with daemon.caller(old) as late:
        late.send(request("POST", "/mcp", rpc("ping")))
        assert late.ended()
        assert daemon.event(peer=late.address)["reason"] == "unknown_ca"


def test_callers_of_another_mesh_are_known_by_its_own_roots(
    daemon: Daemon, server: Recorder, foreign: Mint
) -> None:
    with daemon.caller(foreign.leaf("agent/alice")) as alice:
        assert ping(alice) == 200
    assert (
        server.heard[-1].get("x-forwarded-client-cert").endswith("//other.test/ns/agent/sa/alice")
    )
    # Its CA may say who is who at home, and nothing about us.
    liar = foreign.leaf(uri=["spiffe://cluster.local/ns/agent/sa/alice"])
    with daemon.caller(liar) as caller:
        caller.send(request("POST", "/mcp", rpc("ping")))
        assert caller.ended()
        assert daemon.event(peer=caller.address)["reason"] == "other_trust_domain"


def test_new_roots_of_another_mesh_are_loaded(daemon: Daemon, foreign: Mint) -> None:
    renewed = Mint(daemon.mesh.folder / "renewed", "other.test")
    write_bundle(daemon.mesh, renewed)

    def look() -> bool:
        with daemon.caller(renewed.leaf("agent/alice")) as alice:
            answer = alice.ask_or_end("POST", "/mcp", rpc("ping"))
            return answer is not None and answer.status == 200

    eventually(look, "the new roots", patience=10)
    with daemon.caller(foreign.leaf("agent/alice")) as alice:
        alice.send(request("POST", "/mcp", rpc("ping")))
        assert alice.ended()


# -- what a certificate's end ends


def test_a_connection_is_of_no_use_once_its_callers_certificate_has_expired(
    daemon: Daemon, server: Recorder
) -> None:
    short = daemon.mesh.mint.leaf("agent/alice", not_after=time.time() - daemon.mesh.mint.now + 2)
    with daemon.caller(short) as alice:
        assert ping(alice) == 200
        time.sleep(max(0, short.leaf.not_valid_after_utc.timestamp() - time.time()) + 0.1)
        before = len(server)
        answer = alice.ask_or_end("POST", "/mcp", rpc("ping"))
        assert answer is None or answer.status == 401
        assert len(server) == before


def test_a_stream_ends_with_its_callers_certificate(daemon: Daemon, server: Recorder) -> None:
    done = threading.Event()

    def stream(heard: Heard) -> bytes:
        heard.socket.sendall(EVENTS)
        done.wait(20)
        return b""

    server.answers["/events"] = stream
    short = daemon.mesh.mint.leaf("agent/alice", not_after=time.time() - daemon.mesh.mint.now + 2)
    try:
        with daemon.caller(short) as alice:
            alice.send(request("GET", "/events", headers=()))
            assert alice.head() is not None
            alice.sock.settimeout(5)
            assert not alice.rest().endswith(b"0\r\n\r\n")
    finally:
        done.set()


def test_a_sidecar_whose_own_certificate_has_expired_is_not_ready(
    server: Recorder, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", POLICY)
    install(mesh, mesh.mint.leaf("mcp-prod/files", not_after=time.time() - mesh.mint.now + 3))
    with mesh.run({"mcp": {"to": server.url}}) as daemon:
        eventually(lambda: daemon.page("/readyz")[0] == 503, "its end", patience=10)
        assert "expired" in daemon.page("/readyz")[1]
        install(mesh, mesh.mint.leaf("mcp-prod/files"))
        eventually(lambda: daemon.page("/readyz")[0] == 200, "its renewal", patience=10)


# -- at the start


def start(mesh: Mesh, server: Recorder, **spec: object) -> tuple[int, str]:
    """Start a sidecar that cannot; return its exit code and what it said."""
    mesh.write("policy.yaml", POLICY)
    inbound = {"listen": f"127.0.0.1:{free_port()}", "to": server.url}
    mesh.bootstrap({"mcp": inbound}, free_port(), **spec)
    with mesh.start() as process:
        return process.wait(10), process.stderr.read_text()


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_may_read_is_refused(server: Recorder, tmp_path: Path, mode: int) -> None:
    mesh = Mesh(tmp_path)
    mesh.own.key.chmod(mode)
    code, said = start(mesh, server)
    assert code == 77
    assert "own/svid_key.pem` may be read by others" in said
    assert "chmod 600" in said


def test_a_bundle_that_others_may_write_is_refused(
    server: Recorder, foreign: Mint, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    mesh.own.bundle.chmod(0o666)
    assert start(mesh, server)[0] == 77
    mesh.own.bundle.chmod(0o644)
    write_bundle(mesh, foreign)
    (tmp_path / "other.pem").chmod(0o666)
    code, said = start(mesh, server, trustBundles={"other.test": "./other.pem"})
    assert code == 77
    assert "other.pem` may be written by others" in said


def test_without_an_identity_nothing_is_served_and_a_remedy_is_named(
    server: Recorder, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    shutil.rmtree(mesh.own.folder)
    code, said = start(mesh, server)
    assert code == 1
    assert "there is no identity in" in said
    assert "sidecar issue-cert" in said


# -- a local CA


def test_a_local_ca_gives_it_a_certificate_for_an_hour(server: Recorder, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", POLICY)
    alice = issue(tmp_path, "agent/alice")
    with mesh.run({"mcp": {"to": server.url}}, identity={"ca": "./certs/ca"}) as daemon:
        own = tmp_path / "certs" / "mcp-prod" / "files"
        leaf = x509.load_pem_x509_certificate((own / "svid.pem").read_bytes())
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        assert 3600 <= life.total_seconds() <= 3700
        assert (own / "svid_key.pem").stat().st_mode & 0o777 == 0o600
        # An ordinary client checks the name, too.
        context = ssl.create_default_context(cafile=str(alice / "svid_bundle.pem"))
        context.load_cert_chain(alice / "svid.pem", alice / "svid_key.pem")
        with daemon.caller(context) as caller:
            assert served(caller) == leaf.serial_number
            assert ping(caller) == 200
    with mesh.run({"mcp": {"to": server.url}}, identity={"ca": "./certs/ca"}):
        again = x509.load_pem_x509_certificate((own / "svid.pem").read_bytes())
        assert again.serial_number == leaf.serial_number, "a fresh one is used again"


def test_a_ca_that_is_named_and_missing_is_an_error_and_is_not_made(
    server: Recorder, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    code, said = start(mesh, server, identity={"ca": "./certs/ca"})
    assert code == 1
    assert "certs/ca" in said
    assert not (tmp_path / "certs").exists()
