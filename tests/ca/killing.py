"""Run a function again and again, killed before its first, second, third ... change to the disk.

Started as a program by the tests, because it forks: `killing.py ca|identity DIR`.
It prints one line a kill, `STEP STATE`, and ends after the run that nothing killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from sidecar.ca.identity import load_identity, write_identity
from sidecar.ca.log import read_log
from sidecar.ca.store import LOG, LocalCa, key_pem, make_ca, new_key, open_ca, open_or_make_ca
from sidecar.errors import StartError
from sidecar.spiffe.id import SpiffeId

NOW = 1_790_000_000.0
DONE, KILLED = 0, 9
# Every way in which the code under test changes the disk.
CHANGES = [
    (os, "open"),
    (os, "fsync"),
    (os, "fchmod"),
    (os, "write"),
    (os, "ftruncate"),
    (Path, "mkdir"),
    (Path, "chmod"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "rmdir"),
]


def die_before(step: int) -> None:
    """Make this process end without a word before its change number *step*."""
    steps = count()

    def wrap(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **more: Any) -> Any:
            if next(steps) == step:
                os._exit(KILLED)
            return change(*args, **more)

        return changed

    for owner, name in CHANGES:
        setattr(owner, name, wrap(getattr(owner, name)))


def killed_at_every_step(act: Callable[[], object], look: Callable[[], str]) -> None:
    for step in count():
        child = os.fork()
        if not child:
            die_before(step)
            act()
            os._exit(DONE)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == DONE:
            return
        assert code == KILLED, f"step {step} ended with {code}"
        print(step, look(), flush=True)


def make_cas(top: Path) -> None:
    """Each kill gets a folder of its own; what it leaves must become one whole CA."""
    folders = (top / f"ca-{number}" for number in count())
    current = top / "none"

    def act() -> None:
        open_or_make_ca(current, "cluster.local", NOW)

    def look() -> str:
        nonlocal current
        try:
            found = open_ca(current).root_sha256
        except StartError:
            found = ""
        ca, made = open_or_make_ca(current, "cluster.local", NOW)
        assert made is (not found), "a CA that was there was made anew"
        assert not found or ca.root_sha256 == found, "another CA took its place"
        assert not list(current.glob(".new-*")), "something unfinished was left"
        current = next(folders)
        return "finished" if found else "made"

    current = next(folders)
    killed_at_every_step(act, look)


def replace_identities(top: Path) -> None:
    """Each kill finds an identity in place; afterwards it is whole, old or new."""
    ca = make_ca(top / "ca", "cluster.local", NOW)
    folder = top / "id"
    before = install(ca, folder)

    def look() -> str:
        nonlocal before
        found = load_identity(folder, NOW).svid.serial
        state = "old" if found == before else "new"
        before = install(ca, folder)
        assert load_identity(folder, NOW).svid.serial == before, "the next writer did not win"
        list(read_log((top / "ca" / LOG).open("rb")))
        return state

    killed_at_every_step(lambda: install(ca, folder), look)


def install(ca: LocalCa, folder: Path) -> int:
    key = new_key()
    issued = ca.issue(SpiffeId.of_short("agent/alice"), key.public_key(), ttl=3600, now=NOW)
    write_identity(folder, issued.chain, key_pem(key), issued.bundle)
    return issued.svid.serial


if __name__ == "__main__":
    {"ca": make_cas, "identity": replace_identities}[sys.argv[1]](Path(sys.argv[2]))
