"""Files that hold keys and certificates: who may touch them, and whole or not at all.

A set of files is replaced as one: written and synced in a hidden folder, which
is renamed to `.ready`, from where each file is moved into place. Killed at any
moment, the old set is whole or `.ready` with what was moved is the new one; the
next writer finishes it and `newest` reads it meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..errors import StartError

MAX_FILE: Final = 1024 * 1024  # bytes
LOCK_WAIT: Final = 10.0  # seconds
PRIVATE: Final = 0o600
PUBLIC: Final = 0o644

LOCK: Final = ".lock"
_READY: Final = ".ready"
_NEW: Final = ".new-"
_DENIED: Final = 77


def read_private(path: Path) -> bytes:
    """Return the bytes of a key; StartError 77 if anyone but its owner may read or write it."""
    return _read(path, 0o077, "read by others", "chmod 600")


def read_credential(path: Path) -> bytes:
    """Return the bytes of a credential, which a service manager may lend by way of its group."""
    return _read(path, 0o037, "read by others", "chmod o=,g=r")


def read_public(path: Path) -> bytes:
    """Return the bytes of a certificate or bundle; StartError 77 if others may write it."""
    return _read(path, 0o022, "written by others", "chmod go-w")


def check_private(path: Path) -> None:
    """Raise StartError 77 if others may read or write the key at *path*."""
    _check(path, path.stat(), 0o077, "read by others", "chmod 600")


def check_folder(folder: Path, *, private: bool) -> None:
    """Raise StartError 77 if others may enter (*private*) or change *folder*."""
    found = folder.stat()
    if private:
        _check(folder, found, 0o077, "entered by others", "chmod 700")
    elif not found.st_mode & stat.S_ISVTX:  # in a sticky folder nobody moves another's file
        _check(folder, found, 0o022, "written by others", "chmod go-w")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold *folder* for one writer at a time, across processes."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(folder / LOCK, flags, PRIVATE)
    try:
        _give(handle, folder)
        _wait_lock(handle, folder)
        yield
    finally:
        os.close(handle)


def install(folder: Path, files: Mapping[str, tuple[bytes, int]], *, replace: bool) -> None:
    """Put *files* (name -> bytes, mode) into *folder* as one; the caller holds the lock.

    With *replace* false, a file that is there already is an error and stays.
    """
    settle(folder, replace=replace)
    stage = folder / f"{_NEW}{secrets.token_hex(8)}"
    make_folder(stage)
    try:
        for name, (data, mode) in files.items():
            _write(stage / name, data, mode)
        sync(stage)
        stage.rename(folder / _READY)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    sync(folder)
    settle(folder, replace=replace)


def make_path(folder: Path, mode: int = 0o700) -> None:
    """Make *folder* unless it is there, for its owner alone; nobody else may write above it.

    Who may write above a folder may put another in its place, whatever the umask says.
    """
    try:
        folder.mkdir(mode=mode)
    except FileNotFoundError:
        make_path(folder.parent, 0o755)
        make_path(folder, mode)
    except FileExistsError:
        if not folder.is_dir():
            raise


def make_folder(folder: Path) -> None:
    """Make *folder*, entered by the owner of the one that it is in, and nobody else."""
    folder.mkdir(mode=0o700)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _give(handle, folder.parent)
    finally:
        os.close(handle)


def _give(handle: int, folder: Path) -> None:
    """What root writes in a folder of somebody's is theirs: a service reads what root made."""
    if os.geteuid():
        return
    found, owner = os.fstat(handle), folder.stat()
    # A file of another place may have been linked here to be given away: it has a second name.
    is_ours = stat.S_ISDIR(found.st_mode) or found.st_nlink == 1
    if is_ours and found.st_uid == 0 != owner.st_uid:
        os.fchown(handle, owner.st_uid, owner.st_gid)


def settle(folder: Path, *, replace: bool) -> None:
    """Finish what a killed writer left ready, and drop what it had not finished."""
    ready = folder / _READY
    if ready.is_dir():
        for staged in sorted(ready.iterdir()):
            target = folder / staged.name
            if not replace and target.exists():
                raise StartError(f"`{target}` stands in the way of `{staged}`: move one away")
            staged.replace(target)
        sync(folder)
        ready.rmdir()
    for stale in folder.glob(f"{_NEW}*"):
        shutil.rmtree(stale)


def newest(folder: Path, name: str, read: Callable[[Path], bytes]) -> bytes:
    """Return what *read* makes of the newest *name*: the one made ready, or the one in place.

    In this order it cannot miss both: a file leaves `.ready` by being put in place.
    """
    try:
        return read(folder / _READY / name)
    except FileNotFoundError:
        return read(folder / name)


def strangers(folder: Path) -> list[str]:
    """Return the names in *folder* that this module did not put there for itself."""
    own = (LOCK, _READY)
    names = sorted(entry.name for entry in folder.iterdir())
    return [name for name in names if name not in own and not name.startswith(_NEW)]


def _read(path: Path, forbidden: int, what: str, remedy: str) -> bytes:
    # Not blocking, so that a pipe in place of the file cannot hold us up.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise StartError(f"`{path}` is not a regular file")
        _check(path, found, forbidden, what, remedy)
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise StartError(f"`{path}` is over {MAX_FILE} bytes")
    return data


def _check(path: Path, found: os.stat_result, forbidden: int, what: str, remedy: str) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden:
        raise StartError(
            f"`{path}` may be {what} (mode {mode:04o})", _DENIED, help=f"run `{remedy} {path}`"
        )
    me = os.geteuid()
    if me and found.st_uid not in (0, me):
        raise StartError(
            f"`{path}` belongs to another user (uid {found.st_uid}), who may change it",
            _DENIED,
            help=f"run `chown {me} {path}` as root",
        )


def _wait_lock(handle: int, folder: Path) -> None:
    end = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise StartError(
                    f"another process has held `{folder / LOCK}` for {LOCK_WAIT:.0f} s",
                    help="end that process: the lock goes with it",
                ) from None
            time.sleep(0.01)
        else:
            return


def _write(path: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, PRIVATE)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)  # the umask has no say
        _give(handle, path.parent)
        file.write(data)
        file.flush()
        os.fsync(handle)


def sync(folder: Path) -> None:
    """Have what was renamed in *folder* stand on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
