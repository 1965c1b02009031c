"""The clock is set by a day, and back: nobody stays in whose time is over, and all comes back.

Needs libfaketime, which stands between the sidecar and its clock.
"""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ca_host import CaHost, Member
from support.daemon import PYTHON
from support.wire import Caller, Heard, Recorder, eventually, request, rpc

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = pytest.mark.skipif(FAKETIME is None, reason="libfaketime is absent")

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


class Clock:
    """The sidecar's clock, in seconds from the real one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        self.set(0)

    def set(self, hours: int) -> None:
        staged = self._path.with_suffix(".new")
        staged.write_text(f"{hours:+d}h")
        staged.rename(self._path)

    @property
    def env(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            # Waits for the interpreter's lock would end at once, again and again.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }


def alice(folder: Path, ca: CaHost) -> ssl.SSLContext:
    """Return the context of a caller whose certificate holds a day."""
    out = folder / "alice"
    argv = ["issue-cert", "agent/alice", "--ca", str(ca.ca), "--out", str(out)]
    subprocess.run([PYTHON, "-m", "sidecar", *argv], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(out / "svid_bundle.pem")
    context.load_cert_chain(out / "svid.pem", out / "svid_key.pem")
    return context


def status(caller: Caller) -> int:
    return caller.ask("POST", "/mcp", rpc("ping")).status


@pytest.mark.parametrize("hours", [30, -30])
def test_a_clock_that_is_set_lets_nobody_in_who_may_not_and_all_comes_back(
    hours: int, server: Recorder, tmp_path: Path
) -> None:
    done = threading.Event()

    def stream(heard: Heard) -> bytes:
        heard.socket.sendall(EVENTS)
        done.wait(30)
        return b""

    server.answers["/events"] = stream
    ca = CaHost(tmp_path / "ca")
    member = Member(tmp_path / "files", ca, "mcp-prod/files", server.url)
    context, clock = alice(tmp_path, ca), Clock(tmp_path)
    ca.give_token(member)
    try:
        with ca.serve("--refresh", "1s"), member.run(clock.env) as sidecar:
            sidecar.wait_ready()
            with sidecar.caller(context) as kept, sidecar.caller(context) as streaming:
                assert status(kept) == 200
                streaming.send(request("GET", "/events", headers=()))
                assert streaming.head() is not None
                clock.set(hours)
                if hours > 0:
                    streaming.sock.settimeout(15)
                    assert not streaming.rest().endswith(b"0\r\n\r\n"), "its time is over"
                    assert status(kept) == 401
                    eventually(lambda: sidecar.readiness()[0] == 503, "not ready")
                else:
                    assert status(kept) == 200, "who is in is not thrown out"
                with pytest.raises((OSError, AssertionError)), sidecar.caller(context) as late:
                    assert status(late) == 200
                reason = sidecar.event(event="handshake_failed")["reason"]
                assert reason in ("no_identity", "expired", "not_yet_valid")
            clock.set(0)
            sidecar.wait_ready()
            with sidecar.caller(context) as again:
                assert status(again) == 200
    finally:
        done.set()
