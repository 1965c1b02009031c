"""`sidecar check` before a start, beside a running sidecar, and after something broke."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.daemon import PATIENCE
from support.e2e import Mesh
from support.shell import typed
from support.wire import Recorder


class Silent:
    """An address that takes connections and never answers."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._sock.getsockname()[1]}"

    def close(self) -> bool:
        """Return whether anybody has come."""
        self._sock.settimeout(0)
        try:
            self._sock.accept()[0].close()
        except BlockingIOError:
            return False
        finally:
            self._sock.close()
        return True


def check(folder: Path, *more: str) -> tuple[int, dict[str, bool | None], str]:
    """Return the exit code, what was found of each thing, and all that was printed."""
    done = typed(folder, "check", "-o", "json", *more)
    assert not done.stderr, done.stderr
    outcomes: list[dict[str, Any]] = json.loads(done.stdout)
    assert all(one["remedy"] for one in outcomes if one["ok"] is False)
    found: dict[str, bool | None] = {}
    for one in outcomes:
        found[one["name"]] = found.get(one["name"], True) and one["ok"]
    return done.returncode, found, done.stdout


def test_all_is_well_beside_a_running_sidecar_and_its_ports_are_not_free(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}):
        code, found, printed = check(tmp_path)
        assert code == 0, printed
        wanted = ("identity", "expiry", "port", "server", "last metre", "ready", "certificate")
        assert all(found[name] for name in wanted), printed
        code, found, _ = check(tmp_path, "--pre")
        assert (code, found["port"], found["server"]) == (1, False, True)
    code, found, _ = check(tmp_path)
    assert code == 1
    assert (found["port"], found["server"], found["ready"]) == (False, False, False)


def test_a_certificate_on_disk_that_is_not_the_one_shown_is_a_cross(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}) as daemon:
        # Stopped, it cannot load what changes.
        other = mesh.mint.leaf("mcp-prod/files", folder=tmp_path / "other")
        for name in ("svid.pem", "svid_key.pem"):
            (tmp_path / "own" / name).write_bytes((other.cert.parent / name).read_bytes())
        code, found, printed = check(tmp_path, "--wait", "10s")
        assert code == 0, printed  # it has loaded the new one within the wait
        assert found["certificate"]
        assert daemon.process.is_alive()


def test_a_bad_configuration_is_the_one_cross_and_78(tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text("kind: Sidecar\n")
    code, found, printed = check(tmp_path)
    assert (code, found) == (78, {"configuration": False})
    assert "sidecar validate" in printed
    assert check(tmp_path, "-c", "none.yaml")[0] == 78


def test_the_table_fits_and_quiet_shows_crosses_only(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        mesh.bootstrap(
            {"mcp": {"listen": "127.0.0.1:1", "to": f"http://127.0.0.1:{server.getsockname()[1]}"}},
            None,
        )
        argv = [sys.executable, "-m", "sidecar", "check"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        quiet = typed(tmp_path, "check", "--quiet")
    lines = done.stdout.splitlines()
    assert done.returncode == quiet.returncode == 1
    assert lines[0].startswith("✓ configuration")
    assert any(line.startswith("✗ port") for line in lines)
    assert any("= help: start the sidecar" in line for line in lines)
    assert "✓" not in quiet.stdout
    assert "✗ port" in quiet.stdout


def test_one_may_look_at_some_things_alone(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    with Recorder() as server:
        url = server.url
        with mesh.run({"mcp": {"to": url}}):
            assert check(tmp_path, "--only", "ready")[:2] == (
                0,
                {"configuration": True, "ready": True},
            )
    code, found, _ = check(tmp_path, "--only", "server", "--only", "expiry")
    assert (code, found) == (1, {"configuration": True, "server": False, "expiry": True})


def test_who_asks_for_one_thing_does_not_wait_for_a_ca_that_is_silent(tmp_path: Path) -> None:
    ca = Silent()
    (tmp_path / "sidecar.yaml").write_text(
        "apiVersion: sidecar/v1\nkind: Sidecar\nmetadata: {name: files, namespace: mcp}\n"
        f"spec:\n  identity: {{ca: '{ca.url}'}}\n"
        "  inbound: [{listen: 127.0.0.1:1, to: 'http://127.0.0.1:2'}]\n"
    )
    code, found, _ = check(tmp_path, "--only", "ready")
    assert (code, found["ready"]) == (1, False)
    assert not ca.close()


def test_a_thing_that_there_is_not_is_no_tick(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "sidecar", "check", "--only", "redy"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert "ready" in done.stderr
