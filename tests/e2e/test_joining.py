"""Three machines and two tokens make a mesh; every other token makes a line in the CA's log."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.ca_host import CaHost, Joined, Member
from support.daemon import PYTHON, Process, free_port, running
from support.wire import Recorder, eventually, tool

from sidecar.ca.store import new_key
from sidecar.remote.ca_client import _request


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaHost]:
    with CaHost(tmp_path_factory.mktemp("ca")).serve("--refresh", "1s") as host:
        yield host


def waiting(sidecar: Joined, word: str) -> None:
    """Wait until *sidecar* says that it is not ready, and why."""
    eventually(lambda: word in sidecar.readiness()[1], word, patience=15)
    assert sidecar.readiness()[0] == 503
    assert sidecar.process.is_alive()


def test_a_call_goes_from_one_joined_machine_to_another(
    ca: CaHost, server: Recorder, tmp_path: Path
) -> None:
    files = Member(tmp_path / "files", ca, "mcp-prod/files", server.url)
    other = Member(tmp_path / "other", ca, "mcp-prod/other", server.url, ip="127.0.0.4")
    for member in (files, other):
        ca.give_token(member)
    with files.run() as here, other.run() as there:
        here.wait_ready()
        there.wait_ready()
        with here.caller(other.context()) as caller:
            reply = caller.ask("POST", "/mcp", tool("read_file"))
        assert reply.status == 200
        heard = server.heard[-1].get("x-forwarded-client-cert")
        assert heard.endswith("URI=spiffe://cluster.local/ns/mcp-prod/sa/other")
    for member in (files, other):
        modes = {path.name: path.stat().st_mode & 0o777 for path in member.certs.iterdir()}
        assert modes["svid_key.pem"] == 0o600
        assert not (member.folder / "certs" / "ca").exists(), "no CA on this machine"
        key = (member.certs / "svid_key.pem").read_text()
        assert key not in (ca.ca / "issued.jsonl").read_text()


def test_it_starts_again_with_what_it_has_and_without_a_token(
    ca: CaHost, server: Recorder, tmp_path: Path
) -> None:
    member = Member(tmp_path / "again", ca, "mcp-prod/again", server.url)
    ca.give_token(member)
    with member.run() as first:
        first.wait_ready()
    before = member.leaf().serial_number
    (member.folder / "token").unlink()
    with member.run() as second:
        second.wait_ready()
    assert member.leaf().serial_number == before


def test_a_sidecar_without_an_identity_lets_nobody_in_and_recovers_by_itself(
    ca: CaHost, server: Recorder, tmp_path: Path
) -> None:
    member = Member(tmp_path / "late", ca, "mcp-prod/late", server.url)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    with member.run() as sidecar:
        waiting(sidecar, "no identity yet: there is no join token")
        with pytest.raises((OSError, AssertionError)):
            sidecar.caller(stranger)
        sidecar.event(event="handshake_failed", reason="no_identity")
        ca.give_token(member)
        sidecar.wait_ready()


def test_a_ca_that_is_not_there_is_waited_for(server: Recorder, tmp_path: Path) -> None:
    host = CaHost(tmp_path / "ca")
    member = Member(tmp_path / "files", host, "mcp-prod/files", server.url)
    host.give_token(member)
    with member.run() as sidecar:
        waiting(sidecar, "cannot be reached")
        with host.serve():
            sidecar.wait_ready()


def test_one_that_was_revoked_says_so_and_joins_anew_with_the_next_token(
    ca: CaHost, server: Recorder, tmp_path: Path
) -> None:
    member = Member(tmp_path / "taken", ca, "mcp-prod/taken", server.url)
    ca.give_token(member)
    with member.run() as sidecar:
        sidecar.wait_ready()
        ca.cli("revoke", member.who)
        waiting(sidecar, "the CA has taken this identity back")
        ca.cli("revoke", "--undo", member.who)
        waiting(sidecar, "the CA has taken this identity back")  # what it had, that is
        ca.give_token(member)
        sidecar.wait_ready()


# -- tokens that do not work

REFUSALS = ["used", "expired", "other_identity", "unknown"]


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_token_that_is_of_no_use_is_refused_and_that_is_logged(
    reason: str, ca: CaHost, server: Recorder, tmp_path: Path
) -> None:
    who = f"mcp-prod/{reason.replace('_', '-')}"
    member = Member(tmp_path / "host", ca, who, server.url)
    match reason:
        case "used":
            token = ca.token(who)
            spend(ca, token, who)
        case "expired":
            token = ca.token(who, "--ttl", "1s")
        case "other_identity":
            token = ca.token("mcp-prod/somebody-else")
        case _:
            token = ca.token(who)[:-32] + "0" * 32
    member.put_token(token)
    if reason == "expired":
        time.sleep(1.1)
    with member.run() as sidecar:
        waiting(sidecar, f"the CA refuses ({reason})")
        identity = f"spiffe://cluster.local/ns/mcp-prod/sa/{who.partition('/')[2]}"
        logged = [one for one in ca.events("join_refused") if one["spiffe_id"] == identity]
        assert [one["reason"] for one in logged] == [reason], "asked once, and not for ever"
        assert not member.certs.exists() or not (member.certs / "svid.pem").exists()
        assert token not in sidecar.process.said()
        ca.give_token(member)
        sidecar.wait_ready()
    assert "whole" in ca.cli("log", "verify")


def spend(ca: CaHost, token: str, who: str) -> int:
    """Join by hand; return the status."""
    namespace, _, name = who.partition("/")
    identity = f"spiffe://cluster.local/ns/{namespace}/sa/{name}"
    question = {"token": token, "spiffe_id": identity, "csr": _request(new_key())}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca.ca / "root.pem")
    connection = http.client.HTTPSConnection(ca.ip, ca.port, context=context, timeout=30)
    connection.request("POST", "/v1/join", json.dumps(question))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_another_cas_token_never_leaves_this_machine_and_is_of_no_use_there(
    ca: CaHost, server: Recorder, tmp_path: Path
) -> None:
    other = CaHost(tmp_path / "ca", "127.0.0.5")
    member = Member(tmp_path / "host", ca, "mcp-prod/stray", server.url)
    token = other.token("mcp-prod/stray")
    member.put_token(token)
    before = len(ca.events("join_refused"))
    with member.run() as sidecar:
        waiting(sidecar, "the CA refuses (other_ca)")
    assert len(ca.events("join_refused")) == before, "the token was not shown to this CA"
    assert spend(ca, token, "mcp-prod/stray") == 403
    assert ca.events("join_refused")[-1]["reason"] == "other_ca"
    with other.serve():
        assert spend(other, token, "mcp-prod/stray") == 200, "nothing used it up"


def test_a_workload_that_plays_the_ca_is_not_believed(
    ca: CaHost, server: Recorder, tmp_path: Path
) -> None:
    """Any member has a certificate of the same root; only the CA's server has the CA's name."""
    member = Member(tmp_path / "rogue", ca, "mcp-prod/rogue", server.url)
    ca.give_token(member)
    with member.run() as sidecar:
        sidecar.wait_ready()
        victim = Member(tmp_path / "victim", ca, "mcp-prod/victim", server.url, ip="127.0.0.4")
        text = (victim.folder / "sidecar.yaml").read_text()
        rogue = CaImpostor(tmp_path, ca, member)
        (victim.folder / "sidecar.yaml").write_text(text.replace(ca.url, rogue.url))
        ca.give_token(victim)
        with rogue.serve(), victim.run() as misled:
            waiting(misled, "is not the CA's server")
            assert rogue.heard() == ["GET /v1/bundle"], "no token was shown to it"


class CaImpostor:
    """A server with a workload's certificate that relays the real CA's bundle."""

    def __init__(self, folder: Path, ca: CaHost, member: Member) -> None:
        self.port, self.folder = free_port(), folder
        (folder / "bundle.json").write_text(ca.cli("bundle", "--format", "spiffe"))
        (folder / "impostor.py").write_text(IMPOSTOR)
        self._arguments = [str(self.port), str(member.certs), str(folder / "bundle.json")]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def serve(self) -> AbstractContextManager[Process]:
        argv = [PYTHON, "impostor.py", *self._arguments]
        return running("impostor", argv, self.folder)

    def heard(self) -> list[str]:
        return (self.folder / "impostor.out").read_text().splitlines()


IMPOSTOR = """\
import http.server, ssl, sys

class Impostor(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.command, self.path, flush=True)
        body = open(sys.argv[3], "rb").read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args): pass

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2] + "/svid.pem", sys.argv[2] + "/svid_key.pem")
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Impostor)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
