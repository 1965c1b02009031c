"""The demo's folder gives what is in it and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.demo.files import MAX_FILE, MAX_LISTED, FileError, Folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside.txt").write_text("secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("alpha")
    (root / "sub" / "b.txt").write_text("beta")
    return root


def test_names_are_relative_and_sorted(root: Path) -> None:
    assert Folder(root).names() == ["a.txt", "sub/b.txt"]


def test_a_list_is_bounded(root: Path) -> None:
    for number in range(MAX_LISTED + 5):
        (root / f"{number}.txt").touch()
    assert len(Folder(root).names()) == MAX_LISTED


def test_what_was_written_is_read_and_can_be_deleted(root: Path) -> None:
    folder = Folder(root)
    assert folder.write("sub/c.txt", "gämma") == 6
    assert folder.read("sub/c.txt") == "gämma"
    assert folder.write("sub/c.txt", "x") == 1
    assert folder.read("sub/c.txt") == "x"
    folder.delete("sub/c.txt")
    with pytest.raises(FileError, match="no file"):
        folder.read("sub/c.txt")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "../outside.txt",
        "sub/../../outside.txt",
        "sub/../a.txt",
        "/etc/passwd",
        "./a.txt",
        "sub//b.txt",
        "sub\\b.txt",
        "a.txt\0",
        "a.txt/",
        "/".join(["d"] * 20),
        "x" * 2000,
    ],
)
@pytest.mark.parametrize("act", ["read", "write", "delete"])
def test_a_path_that_could_lead_outside_is_refused(root: Path, path: str, act: str) -> None:
    folder = Folder(root)
    with pytest.raises(FileError):
        folder.write(path, "x") if act == "write" else getattr(folder, act)(path)
    assert (root.parent / "outside.txt").read_text() == "secret"


def test_no_link_is_followed(root: Path) -> None:
    (root / "file_link").symlink_to(root.parent / "outside.txt")
    (root / "folder_link").symlink_to(root.parent)
    folder = Folder(root)
    for act in (folder.read, folder.delete, lambda path: folder.write(path, "x")):
        for path in ("file_link", "folder_link/outside.txt"):
            with pytest.raises(FileError):
                act(path)
    assert folder.names() == ["a.txt", "sub/b.txt"]
    assert (root.parent / "outside.txt").read_text() == "secret"
    assert (root / "file_link").is_symlink()


@pytest.mark.timeout(10)
def test_a_pipe_or_a_folder_is_not_a_file(root: Path) -> None:
    os.mkfifo(root / "pipe")
    folder = Folder(root)
    for path in ("pipe", "sub"):
        for act in (folder.read, folder.delete, lambda path: folder.write(path, "x")):
            with pytest.raises(FileError):
                act(path)


def test_a_file_over_the_limit_is_refused_both_ways(root: Path) -> None:
    (root / "big.txt").write_bytes(b"x" * (MAX_FILE + 1))
    with pytest.raises(FileError, match="larger"):
        Folder(root).read("big.txt")
    with pytest.raises(FileError, match="larger"):
        Folder(root).write("new.txt", "x" * (MAX_FILE + 1))
    assert not (root / "new.txt").exists()


@given(path=st.text(alphabet="./\\a\0~ ", max_size=12))
def test_no_path_reads_what_is_outside(path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp() / "confined"
    (base / "root").mkdir(parents=True, exist_ok=True)
    (base / "a").write_text("secret")
    try:
        text = Folder(base / "root").read(path)
    except FileError:
        return
    pytest.fail(f"{path!r} gave {text!r} from an empty folder")
