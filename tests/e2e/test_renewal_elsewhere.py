"""Certificates of seconds are renewed under load; a CA that goes away and comes back is got over.

How often it renews is bounded here for time; SIDECAR_LONG_TESTS=1 asks for the full number.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ca_host import CaHost, Joined, Member
from support.daemon import PYTHON
from support.raw_caller import stats
from support.wire import Recorder, eventually, rpc

LONG = bool(os.environ.get("SIDECAR_LONG_TESTS"))
RENEWALS = 20 if LONG else 5
TURNS = 4 if LONG else 2


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


class Load:
    """Callers that never stop: one keeps its connection, one makes a new one each time."""

    def __init__(self, sidecar: Joined, context: Callable[[], ssl.SSLContext]) -> None:
        self._sidecar, self._context = sidecar, context
        self.failed: list[str] = []
        self.calls = 0
        self.serials: set[int] = set()
        self._ended = threading.Event()

    @contextmanager
    def applied(self) -> Iterator[Load]:
        threads = [threading.Thread(target=self._run, args=(kept,)) for kept in (True, False)]
        for one in threads:
            one.start()
        try:
            yield self
        finally:
            self._ended.set()
            for one in threads:
                one.join(30)

    def _run(self, kept: bool) -> None:
        while not self._ended.is_set():
            try:
                with self._sidecar.caller(self._context()) as caller:
                    # No longer than the caller's own certificate allows.
                    until = time.monotonic() + (1.0 if kept else 0.0)
                    while not self._ended.is_set():
                        assert caller.ask("POST", "/mcp", rpc("ping")).status == 200
                        self.calls += 1
                        if time.monotonic() >= until:
                            break
                        time.sleep(0.01)
            except (OSError, AssertionError) as error:
                self.failed.append(f"{error!r}")


def other(folder: Path, ca: CaHost) -> Callable[[], ssl.SSLContext]:
    """Return how a caller with a certificate that lasts calls."""
    out = folder / "alice"
    argv = ("issue-cert", "agent/alice", "--ca", str(ca.ca), "--out", str(out))
    subprocess.run([PYTHON, "-m", "sidecar", *argv], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(out / "svid_bundle.pem")
    context.load_cert_chain(out / "svid.pem", out / "svid_key.pem")
    return lambda: context


def failures(sidecar: Joined) -> float:
    """How many renewals have failed since the last that did not, as the sidecar says itself."""
    return stats(sidecar.admin)["server.renewals_failed"]


def renewals(ca: CaHost) -> int:
    return sum(one.get("by") == "renewal" for one in ca.events("issued"))


@pytest.mark.timeout(120)
def test_it_renews_again_and_again_under_load_and_no_call_fails(
    server: Recorder, tmp_path: Path
) -> None:
    ca = CaHost(tmp_path / "ca")
    files = Member(tmp_path / "files", ca, "mcp-prod/files", server.url)
    alice = other(tmp_path, ca)
    ca.give_token(files)
    with ca.serve("--ttl", "3s", "--refresh", "1s"), files.run() as sidecar:
        sidecar.wait_ready()
        with Load(sidecar, alice).applied() as load:
            eventually(lambda: renewals(ca) >= RENEWALS, "renewals", patience=100)
            # The CA's own turn, while all goes on.
            for turn in range(TURNS):
                before = renewals(ca)
                ca.cli("rotate")
                eventually(lambda: renewals(ca) >= before + 2, f"turn {turn}", patience=30)  # noqa: B023
        assert load.failed == []
        assert load.calls > 50
        assert sidecar.readiness()[0] == 200
    serials = [one["serial"] for one in ca.events("issued")]
    assert len(set(serials)) == len(serials)
    assert len(ca.events("rotated")) == TURNS
    assert "whole" in ca.cli("log", "verify")


def test_an_old_intermediate_is_dropped_once_nothing_needs_it(
    server: Recorder, tmp_path: Path
) -> None:
    ca = CaHost(tmp_path / "ca")
    files = Member(tmp_path / "files", ca, "mcp-prod/files", server.url)
    ca.give_token(files)
    with ca.serve("--ttl", "3s", "--refresh", "1s"), files.run() as sidecar:
        sidecar.wait_ready()
        alice = other(tmp_path, ca)()  # of the first intermediate, for a day
        with sidecar.caller(alice) as caller:
            assert caller.ask("POST", "/mcp", rpc("ping")).status == 200
            ca.cli("rotate")
            ca.cli("rotate", "--drop-now")
            reply = refused(lambda: caller.ask("POST", "/mcp", rpc("ping")).status)
            assert reply == 401
        sidecar.event(event="trust_changed", disowned=1)
        sidecar.wait_ready()


@pytest.mark.timeout(120)
def test_the_whole_ca_is_replaced_and_no_call_fails(server: Recorder, tmp_path: Path) -> None:
    """Root and all: as the how-to says, each believes both until nobody needs the old one."""
    old = CaHost(tmp_path / "ca")
    files = Member(tmp_path / "files", old, "mcp-prod/files", server.url)
    old.give_token(files)
    terms = ("--ttl", "6s", "--refresh", "1s")
    new = CaHost(tmp_path / "new-ca")
    new.port = old.port
    roots = [(one.ca / "root.pem").read_bytes() for one in (old, new)]
    known = files.certs / "svid_bundle.pem"

    def told(count: int) -> bool:
        return known.exists() and known.read_bytes().count(b"BEGIN") == count

    with files.run() as sidecar:
        with old.serve(*terms):
            sidecar.wait_ready()
            alice = other(tmp_path / "old", old)
            with Load(sidecar, alice).applied() as load:
                (old.ca / "root.pem").write_bytes(roots[0] + roots[1])
                (new.ca / "root.pem").write_bytes(roots[1] + roots[0])
                alice().load_verify_locations(cadata=roots[1].decode())  # callers believe both too
                eventually(lambda: told(2), "the new root")
                bob = other(tmp_path / "new", new)
                eventually(lambda: knows(sidecar, bob), "a caller of the new CA")
        with new.serve(*terms), Load(sidecar, bob).applied() as more:
            eventually(lambda: renewals(new) >= 1, "a renewal at the new CA")
            with sidecar.caller(alice()) as kept:
                (new.ca / "root.pem").write_bytes(roots[1])
                assert refused(lambda: kept.ask("POST", "/mcp", rpc("ping")).status) == 401
            assert told(1)
        assert load.failed == more.failed == []
        assert sidecar.readiness()[0] == 200


def knows(sidecar: Joined, context: Callable[[], ssl.SSLContext]) -> bool:
    try:
        with sidecar.caller(context()) as caller:
            return caller.ask("POST", "/mcp", rpc("ping")).status == 200
    except (OSError, AssertionError):
        return False


def refused(ask: Callable[[], int], patience: float = 15) -> int:
    """Ask until it is refused; return the status. (403: broken off while it was under way.)"""
    end = time.monotonic() + patience
    while (status := ask()) in (200, 403):
        assert time.monotonic() < end, "never refused"
        time.sleep(0.02)
    return status


@pytest.mark.timeout(120)
def test_a_ca_that_is_away_for_three_renewals_is_got_over_until_the_end_and_after_it(
    server: Recorder, tmp_path: Path
) -> None:
    life = 9  # seconds: a renewal is due every 4.5
    terms = ("--ttl", f"{life}s", "--refresh", "1s")
    ca = CaHost(tmp_path / "ca")
    files = Member(tmp_path / "files", ca, "mcp-prod/files", server.url)
    alice = other(tmp_path, ca)
    ca.give_token(files)
    with files.run() as sidecar:
        with ca.serve(*terms):
            sidecar.wait_ready()
        back, issued = time.time() + 3 * life / 2, len(ca.events("issued"))
        end = files.leaf().not_valid_after_utc.timestamp()
        with Load(sidecar, alice).applied() as load:
            eventually(lambda: failures(sidecar) >= 3, "three failed renewals")
            time.sleep(max(0.0, end - time.time() - 0.5))
        assert load.failed == [], "nothing fails before the end"
        assert load.calls > 50
        assert files.leaf().not_valid_after_utc.timestamp() == end
        eventually(lambda: "has expired" in sidecar.readiness()[1], "its end", patience=15)
        lenient = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        lenient.check_hostname, lenient.verify_mode = False, ssl.CERT_NONE
        with pytest.raises(OSError):  # not even a caller that would take what has expired
            sidecar.caller(lenient)
        sidecar.event(event="handshake_failed", reason="no_identity")
        time.sleep(max(0.0, back - time.time()))
        assert not knows(sidecar, alice), "still closed when the third renewal would be due"
        assert len(ca.events("issued")) == issued
        with ca.serve(*terms):
            sidecar.wait_ready()
            assert knows(sidecar, alice)
            assert failures(sidecar) == 0
            assert files.leaf().not_valid_after_utc.timestamp() > end
    assert "whole" in ca.cli("log", "verify")
