"""Whoever asks a sidecar finds it where it is, and is told what to do where it is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.daemon import free_port

from sidecar.admin.client import UNREACHABLE, addresses, ask
from sidecar.errors import StartError


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(203)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def listening() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_answer_is_status_and_body() -> None:
    with listening() as address:
        assert ask(address, "/why?id=1") == (203, b"/why?id=1")


def test_where_nobody_listens_it_says_what_to_try(tmp_path: Path) -> None:
    for address in (f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/none.sock"):
        with pytest.raises(StartError, match="no sidecar answers") as caught:
            ask(address, "/")
        assert caught.value.code == UNREACHABLE == 69
        assert "--admin" in caught.value.help


@pytest.mark.parametrize("address", ["", "nowhere", "host:", "127.0.0.1:http", ":80"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(StartError, match="no address") as caught:
        ask(address, "/")
    assert caught.value.code == 2


def test_the_address_is_given_or_in_the_environment_or_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / "sidecar"
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    units = str(tmp_path / "units")
    with pytest.raises(StartError, match="no sidecar has a socket") as caught:
        addresses("", environment, "/nowhere", 0, units)
    assert caught.value.code == UNREACHABLE
    folder.mkdir()
    for name in ("b.sock", "a.sock", "a.log"):
        (folder / name).touch()
    found = [f"unix:{folder}/a.sock", f"unix:{folder}/b.sock"]
    assert addresses("", environment, "/nowhere", 0, units) == found
    (tmp_path / "units" / "docs").mkdir(parents=True)
    (tmp_path / "units" / "docs" / "docs.sock").touch()
    found.append(f"unix:{units}/docs/docs.sock")
    assert addresses("", environment, "/nowhere", 0, units) == found
    environment["SIDECAR_ADMIN"] = "127.0.0.1:1"
    assert addresses("", environment, "/nowhere", 0) == ["127.0.0.1:1"]
    assert addresses("unix:/x", environment, "/nowhere", 0) == ["unix:/x"]
