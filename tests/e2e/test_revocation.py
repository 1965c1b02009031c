"""Who is revoked is refused on open connections within the refresh time; so is its renewal."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.ca_host import CaHost, Joined, Member
from support.wire import Caller, Heard, Recorder, Reply, eventually, request, rpc

REFRESH = 1.0
# The refresh time, what a busy machine adds, and a look a second.
SOON = REFRESH + 4
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaHost]:
    with CaHost(tmp_path_factory.mktemp("ca")).serve("--refresh", "1s") as host:
        yield host


@pytest.fixture(scope="module")
def files(
    ca: CaHost, server: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Joined]:
    member = Member(tmp_path_factory.mktemp("files"), ca, "mcp-prod/files", server.url)
    ca.give_token(member)
    with member.run() as sidecar:
        sidecar.wait_ready()
        yield sidecar


def joined(ca: CaHost, folder: Path, who: str, server: Recorder) -> Member:
    """Return a machine that has joined; its sidecar does not run any more."""
    member = Member(folder / who.replace("/", "-"), ca, who, server.url, ip="127.0.0.4")
    ca.give_token(member)
    with member.run() as sidecar:
        sidecar.wait_ready()
    return member


def ping(caller: Caller) -> Reply:
    return caller.ask("POST", "/mcp", rpc("ping"))


def until_refused(ask: Callable[[], Reply]) -> tuple[Reply, float]:
    """Ask until the answer is no; return it, and after how many seconds it came.

    A call that is under way at that moment is broken off with 403; the next one counts.
    """
    begin = time.monotonic()
    while (reply := ask()).status in (200, 403):
        assert time.monotonic() < begin + 30, "never refused"
        time.sleep(0.01)
    return reply, time.monotonic() - begin


@pytest.mark.parametrize("by", ["name", "serial"])
def test_the_next_request_on_an_open_connection_is_refused(
    by: str, ca: CaHost, files: Joined, server: Recorder, tmp_path: Path
) -> None:
    member = joined(ca, tmp_path, f"agent/by-{by}", server)
    serial = f"{member.leaf().serial_number:032x}"
    with files.caller(member.context()) as caller:
        assert ping(caller).status == 200
        ca.cli("revoke", member.who if by == "name" else serial)
        reply, took = until_refused(lambda: ping(caller))
        before = len(server)
        assert reply.status == 401
        assert reply.json()["error"]["data"]["reason"] == "unauthenticated"
        assert "was revoked" in reply.json()["error"]["message"]
        assert took < SOON
        assert ping(caller).status == 401, "and every one after it"
        assert len(server) == before, "not a byte of it reached the server"
    with files.caller(member.context()) as again:
        again.send(request("POST", "/mcp", rpc("ping")))
        assert again.ended()
        files.event(event="handshake_failed", reason="revoked", peer=again.address)


def test_what_passes_ends_and_others_go_on(
    ca: CaHost, files: Joined, server: Recorder, tmp_path: Path
) -> None:
    done = threading.Event()

    def stream(heard: Heard) -> bytes:
        heard.socket.sendall(EVENTS)
        done.wait(30)
        return b""

    server.answers["/events"] = stream
    bad = joined(ca, tmp_path, "agent/bad", server)
    good = joined(ca, tmp_path, "agent/good", server)
    try:
        with files.caller(bad.context()) as ending, files.caller(good.context()) as staying:
            for one in (ending, staying):
                one.send(request("GET", "/events", headers=()))
                assert one.head() is not None
            ca.cli("revoke", bad.who)
            ending.sock.settimeout(SOON)
            assert not ending.rest().endswith(b"0\r\n\r\n"), "cut off, and not ended"
            staying.sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                staying.sock.recv(1)
            with files.caller(good.context()) as other:
                assert ping(other).status == 200
    finally:
        done.set()


def test_a_call_that_waits_for_its_answer_is_broken_off(
    ca: CaHost, files: Joined, server: Recorder, tmp_path: Path
) -> None:
    done = threading.Event()

    def late(heard: Heard) -> bytes:
        done.wait(30)
        return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

    server.answers["/late"] = late
    member = joined(ca, tmp_path, "agent/waiting", server)
    try:
        with files.caller(member.context()) as caller:
            caller.send(request("GET", "/late", headers=()))
            ca.cli("revoke", member.who)
            caller.sock.settimeout(SOON)
            head = caller.head()
            assert head is not None
            assert head.start.split()[1] == "403"
    finally:
        done.set()


def test_its_renewal_is_refused_until_that_is_undone_and_it_joins_anew(
    server: Recorder, tmp_path: Path
) -> None:
    host = CaHost(tmp_path / "ca")
    member = Member(tmp_path / "fallen", host, "mcp-prod/fallen", server.url)
    host.give_token(member)
    with host.serve("--refresh", "1s", "--ttl", "4s"), member.run() as sidecar:
        sidecar.wait_ready()
        host.cli("revoke", member.who)
        eventually(lambda: "the CA refuses (revoked)" in sidecar.said(), "a refused renewal")
        assert host.events("renew_refused")[-1]["reason"] == "revoked"
        assert host.ask("token", member.who).returncode == 1, "nor is there a token for it"
        host.cli("revoke", "--undo", member.who)
        eventually(lambda: "has expired" in sidecar.readiness()[1], "its end", patience=15)
        host.give_token(member)
        sidecar.wait_ready()


def test_a_list_that_gets_too_old_is_said_and_comes_back(server: Recorder, tmp_path: Path) -> None:
    host = CaHost(tmp_path / "ca")
    identity = {"ca": host.url, "tokenFile": "./token", "maxAge": "2s"}
    member = Member(tmp_path / "host", host, "mcp-prod/files", server.url, identity=identity)
    host.give_token(member)
    with member.run() as sidecar:
        with host.serve("--refresh", "1s"):
            sidecar.wait_ready()
            time.sleep(2.5)
            assert sidecar.readiness()[0] == 200, "asked again and again, it does not get old"
        eventually(lambda: "deny list are" in sidecar.readiness()[1], "old age", patience=15)
        with sidecar.caller(member.context()) as caller:
            assert ping(caller).status == 200, "what is known is still good"
        with host.serve("--refresh", "1s"):
            sidecar.wait_ready()


def test_what_was_revoked_stays_so_while_the_ca_is_away(server: Recorder, tmp_path: Path) -> None:
    host = CaHost(tmp_path / "ca")
    member = Member(tmp_path / "host", host, "mcp-prod/files", server.url)
    with host.serve("--refresh", "1s"):
        fallen = joined(host, tmp_path, "agent/fallen", server)
        host.cli("revoke", fallen.who)
        host.give_token(member)
        with member.run() as sidecar:
            sidecar.wait_ready()
    with member.run() as sidecar:  # and now there is no CA to ask
        sidecar.wait_ready()
        with sidecar.caller(fallen.context()) as caller:
            caller.send(request("POST", "/mcp", rpc("ping")))
            assert caller.ended()
            sidecar.event(event="handshake_failed", reason="revoked")


def test_a_restored_ca_that_has_forgotten_is_not_believed(server: Recorder, tmp_path: Path) -> None:
    host = CaHost(tmp_path / "ca")
    member = Member(tmp_path / "host", host, "mcp-prod/files", server.url)
    with host.serve("--refresh", "1s"):
        host.cli("revoke", "agent/one")
        kept = (host.ca / "revoked.json").read_bytes()
        host.cli("revoke", "agent/two")
        host.give_token(member)
        with member.run() as sidecar:
            sidecar.wait_ready()
            (host.ca / "revoked.json").write_bytes(kept)
            eventually(lambda: "older than the one that is known" in sidecar.said(), "a no")
            time.sleep(1.1)  # a change is of a later second
            host.cli("revoke", "agent/three")
            known = member.certs / "revoked.json"
            eventually(lambda: "sa/three" in known.read_text(), "the newer list", patience=30)


# -- other trust domains


def test_another_mesh_is_known_by_what_its_ca_serves_and_only_as_itself(
    ca: CaHost, server: Recorder, tmp_path: Path
) -> None:
    other = CaHost(tmp_path / "other", "127.0.0.5", "--trust-domain", "other.test")
    bootstrap = tmp_path / "here" / "other.pem"
    bundles = {
        "other.test": {
            "url": f"{other.url}/v1/bundle",
            "spiffeId": "spiffe://other.test/ca",
            "bootstrap": "./other.pem",
        }
    }
    here = Member(tmp_path / "here", ca, "mcp-prod/here", server.url, trustBundles=bundles)
    bootstrap.write_text(other.cli("bundle"))
    ca.give_token(here)
    there = Member(tmp_path / "there", other, "agent/alice", server.url, trustDomain="other.test")
    other.give_token(there)
    with here.run() as sidecar, there.run() as away:
        eventually(lambda: "`other.test` has not been fetched" in sidecar.readiness()[1], "no")
        with other.serve("--refresh", "1s"):
            away.wait_ready()
            sidecar.wait_ready()
            context = mixed(there, here)
            with sidecar.caller(context) as caller:
                assert ping(caller).status == 200
            heard = server.heard[-1].get("x-forwarded-client-cert")
            assert heard.endswith("URI=spiffe://other.test/ns/agent/sa/alice")


def mixed(caller: Member, callee: Member) -> ssl.SSLContext:
    """Return a context with the certificate of *caller* that trusts *callee*'s mesh."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(callee.certs / "svid_bundle.pem")
    context.load_cert_chain(caller.certs / "svid.pem", caller.certs / "svid_key.pem")
    return context
