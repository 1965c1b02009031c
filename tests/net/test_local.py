"""A Unix socket to listen on: who may connect, and what happens to what was there before."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecar.errors import StartError
from sidecar.http.h1 import Bounds, Request
from sidecar.http.lines import LineTables
from sidecar.net.caller import Caller, Door, Times
from sidecar.net.deadlines import Deadlines
from sidecar.net.listener import Gate, Mtls
from sidecar.net.local import LocalListener, bind_local, uid_of
from sidecar.net.tasks import Tasks
from sidecar.policy.call import Peer

OWN = {os.geteuid()}
ASK = b"GET / HTTP/1.1\r\nhost: files\r\n\r\n"
# Run by another user: says what became of a connection.
TRY = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
        sock.sendall(b"GET / HTTP/1.1\\r\\nhost: files\\r\\n\\r\\n")
        print(sock.recv(100) or "closed")
    except OSError as error:
        print(type(error).__name__)
"""


@dataclass
class Place:
    """A listener at *path*, and what it told."""

    path: Path
    uids: Collection[int] | None
    refused: list[tuple[str, str]] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)

    @asynccontextmanager
    async def on(self) -> AsyncIterator[LocalListener]:
        loop = asyncio.get_running_loop()
        tasks = Tasks(lambda what, fault: pytest.fail(f"{what}: {fault}"))
        gate = Gate(
            mode=lambda _: Mtls.DISABLE,
            identity=lambda: None,
            wall=lambda: 0.0,
            failed=lambda peer, reason, detail: self.refused.append((peer, reason)),
            shook=lambda: None,
        )
        gate.limit(16, 16, 5.0)
        door = Door(
            inbound=f"unix:{self.path}",
            port=0,
            bounds=Bounds(16_384, 100, 0),
            times=Times(),
            tables=LineTables(32_768, 16),
            deadlines=Deadlines(loop, loop.time),
            serve=self._serve,
            spawn=tasks.spawn,
            live=set(),
            identify=lambda transport, down: Peer(None, "", 0),
        )
        sock = bind_local(door.inbound, self.uids)
        listener = LocalListener(sock, door, gate, tasks, self.uids)
        listener.start()
        try:
            yield listener
        finally:
            listener.stop()
            for down in list(door.live):
                down.abort()
            await tasks.end()

    async def _serve(self, request: Request, down: Caller) -> None:
        self.peers.append(down.peer)
        down.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # type: ignore[attr-defined]

    async def asked(self) -> bytes:
        """Connect as ourselves and return what is said."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            writer.write(ASK)
            return await reader.read(100)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def asked_by_nobody(self) -> str:
        """Connect as another user and return what becomes of it."""
        argv = [sys.executable, "-c", TRY, str(self.path)]
        child = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        said, _ = await child.communicate()
        return said.decode().strip()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_only_the_own_user_may_connect_unless_others_are_named(tmp_path: Path) -> None:
    async def main() -> None:
        place = Place(tmp_path / "x.sock", OWN)
        async with place.on() as listener:
            assert mode_of(place.path) == 0o600
            assert listener.address == f"unix:{place.path}"
            assert (await place.asked()).startswith(b"HTTP/1.1 204")
            assert place.peers[0].identity is None
            assert place.peers[0].principal == ""
            assert os.listdir(tmp_path) == ["x.sock"]
        assert os.listdir(tmp_path) == []

    asyncio.run(main())


def test_the_kernel_says_who_connects_and_not_the_mode_alone(tmp_path: Path) -> None:
    async def main() -> None:
        place = Place(tmp_path / "x.sock", {12345})
        async with place.on() as listener:
            assert mode_of(place.path) == 0o666
            assert await place.asked() == b""
            assert place.refused == [(f"uid {os.geteuid()}", "other_uid")]
            listener.allow(OWN)
            assert mode_of(place.path) == 0o600
            assert (await place.asked()).startswith(b"HTTP/1.1 204")

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("uids", "outcome"),
    [(OWN, "PermissionError"), ({0, 12345}, "closed"), ({65534}, "204"), (None, "204")],
    ids=["own", "others", "nobody", "any"],
)
def test_another_user_gets_in_only_if_named(
    tmp_path: Path, uids: Collection[int] | None, outcome: str
) -> None:
    async def main() -> None:
        place = Place(tmp_path / "x.sock", uids)
        async with place.on():
            said = await place.asked_by_nobody()
            if outcome == "closed":
                assert said in ("closed", "ConnectionResetError", "BrokenPipeError")
                assert place.refused == [("uid 65534", "other_uid")]
            else:
                assert outcome in said

    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    asyncio.run(main())


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with bind_local(f"unix:{path}", OWN) as ours:
        assert path.is_socket()
        assert not ours.getblocking()
        with pytest.raises(StartError, match="another process listens on it") as error:
            bind_local(f"unix:{path}", OWN)
        assert "folder" in error.value.help
    assert os.listdir(tmp_path) == ["x.sock"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.sock"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartError, match="is no socket"):
        bind_local(f"unix:{path}", OWN)
    assert path.is_symlink() or path.exists()


def test_a_folder_where_others_write_is_no_place_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StartError, match="others may write"):
        bind_local(f"unix:{folder}/x.sock", OWN)
    folder.chmod(0o1777)  # as that of temporary files: nobody may remove what is another's
    bind_local(f"unix:{folder}/x.sock", OWN).close()


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    bind_local(f"unix:{tmp_path}/run/sidecar/x.sock", OWN).close()
    assert mode_of(tmp_path / "run" / "sidecar") & 0o022 == 0


def test_what_was_put_in_its_place_is_not_removed(tmp_path: Path) -> None:
    async def main() -> None:
        place = Place(tmp_path / "x.sock", OWN)
        async with place.on():
            place.path.unlink()
            place.path.write_text("another's")
        assert place.path.read_text() == "another's"

    asyncio.run(main())


def test_a_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot listen on"):
        bind_local(f"unix:{tmp_path}/{'x' * 200}", OWN)


def test_who_is_at_the_other_end_is_told_by_its_user() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert uid_of(one) == os.geteuid()
