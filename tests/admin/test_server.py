"""The admin listener: it only tells, only to its own name, and only to who may ask."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

import pytest
import uvloop

from sidecar.admin.server import AdminServer, Make, Page, default_socket
from sidecar.errors import StartError


def number(query: str) -> Page:
    return Page(b"%d\n" % int(query))


PAGES: Mapping[str, Make] = {
    "/hello": lambda _: Page(b"hello\n"),
    "/sick": lambda _: Page(b"not yet\n", status=503),
    "/typed": lambda _: Page(b"x 1\n", "text/x-own"),
    "/number": number,
}


async def ask(address: str, data: bytes) -> bytes:
    """Send *data* to the listener and return all it says."""
    if address.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    else:
        host, port = address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        await writer.wait_closed()


def serving(listen: str, story: Callable[[AdminServer], Coroutine[object, object, None]]) -> None:
    """Run *story* while a server listens on *listen*."""

    async def run() -> None:
        server = AdminServer(PAGES)
        await server.start(listen)
        try:
            await story(server)
        finally:
            await server.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the daemon does
        runner.run(run())


def get(path: str, host: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()


def test_pages_are_told_over_tcp() -> None:
    async def story(server: AdminServer) -> None:
        said = await ask(server.address, get("/hello?x=1", server.address))
        head, _, body = said.partition(b"\r\n\r\n")
        assert (head.split(b"\r\n")[0][:12], body) == (b"HTTP/1.1 200", b"hello\n")
        assert b"content-length: 6" in head
        assert b"cache-control: no-store" in head
        assert b"x-content-type-options: nosniff" in head
        assert (await ask(server.address, get("/sick", server.address)))[9:12] == b"503"
        assert b"text/x-own" in await ask(server.address, get("/typed", server.address))

    serving("127.0.0.1:0", story)


def test_a_page_is_handed_its_query_and_may_refuse_it() -> None:
    async def story(server: AdminServer) -> None:
        for query, status, body in (
            ("7", b"200", b"7\n"),
            ("x", b"400", b"literal"),
            ("", b"400", b""),
        ):
            said = await ask(server.address, get(f"/number?{query}", server.address))
            assert (said[9:12], body in said) == (status, True)

    serving("127.0.0.1:0", story)


def test_to_head_only_the_head_is_told() -> None:
    async def story(server: AdminServer) -> None:
        said = await ask(server.address, get("/hello", server.address, "HEAD"))
        assert said.endswith(b"\r\n\r\n")
        assert b"content-length: 6" in said

    serving("127.0.0.1:0", story)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(method: str) -> None:
    async def story(server: AdminServer) -> None:
        assert (await ask(server.address, get("/hello", server.address, method)))[9:12] == b"405"

    serving("127.0.0.1:0", story)


def test_a_path_that_is_none_tells_which_there_are() -> None:
    async def story(server: AdminServer) -> None:
        said = await ask(server.address, get("/nothing", server.address))
        assert said[9:12] == b"404"
        assert said.endswith(b"/hello\n/number\n/sick\n/typed\n")

    serving("127.0.0.1:0", story)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "", "LOCAL"])
def test_a_page_in_a_browser_cannot_ask_by_another_name(host: str) -> None:
    async def story(server: AdminServer) -> None:
        port = server.address.rsplit(":", 1)[1]
        said = await ask(server.address, get("/hello", host.format(port=port)))
        assert said[9:12] in (b"403", b"")
        assert b"hello\n" not in said
        ours = await ask(server.address, get("/hello", f"localhost:{port}"))
        assert ours.endswith(b"hello\n")

    serving("127.0.0.1:0", story)


@pytest.mark.parametrize(
    "data", [b"nonsense\r\n\r\n", b"GET /hello HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n", b"\0"]
)
def test_what_is_no_request_is_closed_and_the_next_is_served(data: bytes) -> None:
    async def story(server: AdminServer) -> None:
        try:
            assert b"hello" not in await ask(server.address, data + b"\r\n\r\n")
        except ConnectionResetError:
            pass
        assert b"hello" in await ask(server.address, get("/hello", server.address))

    serving("127.0.0.1:0", story)


def test_a_socket_is_for_its_owner_alone_and_any_name_may_be_asked_by(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin.sock"

    async def story(server: AdminServer) -> None:
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert (await ask(server.address, get("/hello", "whatever"))).endswith(b"hello\n")

    serving(f"unix:{path}", story)
    assert not path.exists(), "it is gone when the server is"


def test_a_socket_that_a_dead_one_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def story(server: AdminServer) -> None:
        assert (await ask(server.address, get("/hello", "x"))).endswith(b"hello\n")

    serving(f"unix:{path}", story)


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()

        async def story(server: AdminServer) -> None:
            pytest.fail("two listen on one socket")

        with pytest.raises(StartError) as error:
            serving(f"unix:{path}", story)
        assert str(path) in str(error.value)
        assert path.exists()


def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")

    async def story(server: AdminServer) -> None:
        pytest.fail("a file was replaced")

    with pytest.raises(StartError):
        serving(f"unix:{path}", story)
    assert path.read_text() == "data"


def test_a_taken_address_names_itself_and_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        async def story(server: AdminServer) -> None:
            pytest.fail("two listen on one address")

        with pytest.raises(StartError) as error:
            serving(address, story)
    assert f"`{address}`" in str(error.value)
    assert "admin" in error.value.help


def test_the_umask_is_as_it_was(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:

        async def story(server: AdminServer) -> None:
            assert os.umask(0o022) == 0o022

        serving(f"unix:{tmp_path}/admin.sock", story)
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("environment", "where"),
    [
        ({"RUNTIME_DIRECTORY": "/run/sidecar"}, "unix:/run/sidecar/files.sock"),
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "unix:/run/a/files.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "unix:/run/user/7/sidecar/files.sock"),
        ({"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": ""}, "unix:/tmp/sidecar-7/files.sock"),
        ({}, "unix:/tmp/sidecar-7/files.sock"),
    ],
)
def test_the_usual_place_follows_the_system(environment: dict[str, str], where: str) -> None:
    assert default_socket(environment, "files", "/tmp", 7) == where
