"""Who may touch files, and that a set of them is there whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sidecar.ca import files
from sidecar.ca.files import (
    MAX_FILE,
    PRIVATE,
    PUBLIC,
    check_folder,
    check_private,
    install,
    locked,
    newest,
    read_private,
    read_public,
    settle,
    strangers,
)
from sidecar.errors import StartError


def file_of(folder: Path, mode: int, data: bytes = b"x") -> Path:
    path = folder / "file"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def put(folder: Path, *, replace: bool = True, **texts: bytes) -> None:
    with locked(folder):
        install(folder, {n: (t, PUBLIC) for n, t in texts.items()}, replace=replace)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_that_is_its_owners_alone_is_read(tmp_path: Path, mode: int) -> None:
    path = file_of(tmp_path, mode)
    assert read_private(path) == b"x"
    check_private(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_key_that_others_may_touch_is_not_read(tmp_path: Path, mode: int) -> None:
    path = file_of(tmp_path, mode)
    for check in (read_private, check_private):
        with pytest.raises(StartError) as raised:
            check(path)
        assert raised.value.code == 77
        assert raised.value.help == f"run `chmod 600 {path}`"


@pytest.mark.parametrize(("mode", "fine"), [(0o644, True), (0o664, False), (0o646, False)])
def test_a_bundle_that_others_may_write_is_not_read(tmp_path: Path, mode: int, fine: bool) -> None:
    path = file_of(tmp_path, mode)
    if fine:
        assert read_public(path) == b"x"
        return
    with pytest.raises(StartError) as raised:
        read_public(path)
    assert (raised.value.code, raised.value.help) == (77, f"run `chmod go-w {path}`")


@pytest.mark.parametrize(
    ("mode", "private", "fine"),
    [
        (0o700, True, True),
        (0o750, True, False),
        (0o755, False, True),
        (0o775, False, False),
        (0o1777, False, True),
        (0o1777, True, False),
    ],
)
def test_a_folder_is_checked_for_what_it_holds(
    tmp_path: Path, mode: int, private: bool, fine: bool
) -> None:
    tmp_path.chmod(mode)
    if fine:
        check_folder(tmp_path, private=private)
        return
    with pytest.raises(StartError) as raised:
        check_folder(tmp_path, private=private)
    assert raised.value.code == 77


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path, 0o644)
    os.chown(path, 4711, -1)
    assert read_public(path) == b"x"  # root may use anybody's
    monkeypatch.setattr(os, "geteuid", lambda: 4712)
    with pytest.raises(StartError, match="another user") as raised:
        read_public(path)
    assert raised.value.code == 77
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert read_public(path) == b"x"
    os.chown(path, 0, -1)
    assert read_public(path) == b"x"  # root's files are everybody's to believe


def test_a_pipe_in_place_of_a_file_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(StartError, match="regular"):
        read_private(tmp_path / "pipe")


def test_a_file_has_a_greatest_size(tmp_path: Path) -> None:
    path = file_of(tmp_path, 0o600, b"x" * MAX_FILE)
    assert len(read_private(path)) == MAX_FILE
    path.write_bytes(b"x" * (MAX_FILE + 1))
    with pytest.raises(StartError, match="over"):
        read_private(path)


def test_the_mode_of_a_written_file_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with locked(tmp_path):
            install(tmp_path, {"a": (b"1", PUBLIC), "b": (b"2", PRIVATE)}, replace=True)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


def test_nobody_else_may_write_above_a_new_folder_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.make_path(tmp_path / "a" / "b" / "c")
        files.make_path(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert [one.stat().st_mode & 0o777 for one in sorted((tmp_path / "a").rglob("*"))] == [
        0o755,
        0o700,
    ]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        files.make_path(tmp_path / "file")


def test_a_set_replaces_a_set_and_leaves_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, a=b"1", b=b"1")
    put(tmp_path, a=b"2", b=b"2")
    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"22"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "a", "b"]
    assert strangers(tmp_path) == ["a", "b"]


def test_a_set_that_may_not_replace_leaves_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, a=b"1")
    with pytest.raises(StartError, match="in the way"):
        put(tmp_path, replace=False, a=b"2")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_failed_write_leaves_the_old_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, a=b"1", b=b"1")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        put(tmp_path, a=b"2", b=b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "a", "b"]


def test_a_set_made_ready_is_read_as_one_and_then_finished(tmp_path: Path) -> None:
    put(tmp_path, a=b"1", b=b"1")
    ready = tmp_path / ".ready"
    ready.mkdir()
    (ready / "b").write_bytes(b"2")  # as a writer killed after moving `a` leaves it
    (tmp_path / "a").write_bytes(b"2")
    stale = tmp_path / ".new-0123"
    stale.mkdir()
    (stale / "a").write_bytes(b"3")
    assert [newest(tmp_path, name, Path.read_bytes) for name in "ab"] == [b"2", b"2"]
    settle(tmp_path, replace=True)
    assert (tmp_path / "b").read_bytes() == b"2"
    assert not ready.exists()
    assert not stale.exists()


def test_one_writer_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with locked(tmp_path):
            order.append("other")

    thread = threading.Thread(target=other)
    with locked(tmp_path):
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_waiting_for_a_lock_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_WAIT", 0.05)
    with locked(tmp_path), pytest.raises(StartError, match="held"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), locked(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()
