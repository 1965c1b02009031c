"""Run a function again and again, killed before its first, second, third ... change to the disk.

Started as a program by the tests, because it forks: `killing.py WHAT DIR`, WHAT being
`ca`, `identity`, `join`, `rotate`, `revoke` or `log`.
It prints one line a kill, `STEP STATE`, and ends after the run that nothing killed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.ca.desk import Desk
from sidecar.ca.identity import load_identity, write_identity
from sidecar.ca.issue_log import LEAST_SIZE, LOG, LogLimits, append, set_limits
from sidecar.ca.ledger import entries
from sidecar.ca.log import read_log
from sidecar.ca.revocations import load_revocations, revoke_id
from sidecar.ca.store import LocalCa, key_pem, make_ca, new_key, open_ca, open_or_make_ca
from sidecar.ca.tokens import Token, TokenStore
from sidecar.ca.turnover import load_root_key, retired, rotate
from sidecar.errors import StartError
from sidecar.spiffe.bundle import Bundles, TrustBundle
from sidecar.spiffe.certificate import Certificate
from sidecar.spiffe.id import SpiffeId
from sidecar.spiffe.svid import verify_path

NOW = 1_790_000_000.0
ALICE = SpiffeId.of_short("agent/alice")
DONE, KILLED = 0, 9
# Every way in which the code under test changes the disk.
CHANGES = [
    (os, "open"),
    (os, "fsync"),
    (os, "fchmod"),
    (os, "write"),
    (os, "ftruncate"),
    (os, "link"),
    (Path, "mkdir"),
    (Path, "chmod"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "rmdir"),
    (Path, "unlink"),
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


def join(top: Path) -> None:
    """Each kill finds a fresh token; afterwards it has worked once, at most, and says so."""
    ca = make_ca(top / "ca", "cluster.local", NOW)
    tokens = TokenStore(ca.folder, ca.root_sha256)
    token = tokens.make(ALICE, NOW)

    def act() -> None:
        assert answered(ca.folder, token) == 200

    def look() -> str:
        nonlocal token
        given = issued_by(ca.folder, token)
        again = answered(ca.folder, token)
        total = issued_by(ca.folder, token)
        assert total == given + (again == 200), "what the log says is not what was given"
        assert total <= 1, "a token has worked twice"
        assert not (given and again == 200)
        assert answered(ca.folder, token) == 403
        check_log(ca.folder)
        token = tokens.make(ALICE, NOW)
        return "given" if given else "free" if again == 200 else "lost"

    killed_at_every_step(act, look)


def answered(folder: Path, token: Token) -> int:
    """Join with *token*; return the status."""
    desk = Desk(folder, ttl=3600, grace=0, refresh=30)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(new_key(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    question = {"token": str(token), "spiffe_id": str(ALICE), "csr": request}
    # From an address of its own: nobody has to wait.
    return desk.join(json.dumps(question).encode(), token.secret, NOW).status


def issued_by(folder: Path, token: Token) -> int:
    check_log(folder)
    issued = (one.facts for one in entries(folder) if one.event == "issued")
    return sum(one.get("token") == token.hash[:16] for one in issued)


def check_log(folder: Path) -> None:
    """Mend what a kill has left, as the next entry does; then all must be whole and once."""
    open_ca(folder).record("looked", {}, NOW)
    serials = [one.facts["serial"] for one in entries(folder) if one.event == "issued"]
    assert len(set(serials)) == len(serials), "a serial was issued twice"


def turn_over(top: Path) -> None:
    """Each kill finds a whole CA; afterwards it issues by one intermediate, old or new."""
    ca = make_ca(top / "ca", "cluster.local", NOW)
    key = load_root_key(ca.folder, None, None)
    bundles = Bundles.of([TrustBundle.from_pem(ca.bundle, "cluster.local")])
    before = ca.issuer.certificate.sha256

    def look() -> str:
        nonlocal before
        found = open_ca(ca.folder)
        now = found.issuer.certificate.sha256
        waiting = {one.sha256 for one in retired(ca.folder)}
        assert now == before or before in waiting, "an old intermediate would never be dropped"
        assert now not in waiting
        issued = found.issue(ALICE, new_key().public_key(), ttl=60, now=NOW)
        chain = [one.der for one in Certificate.all_from_pem(issued.chain)]
        assert verify_path(chain, bundles, NOW).id == ALICE
        check_log(ca.folder)
        state = "old" if now == before else "new"
        before = now
        return state

    killed_at_every_step(lambda: rotate(ca.folder, key, NOW, life=86400.0), look)


def revoke(top: Path) -> None:
    """Each kill finds a whole list; afterwards it is that one or the next."""
    ca = make_ca(top / "ca", "cluster.local", NOW)
    names = (SpiffeId.of_short(f"agent/n{number}") for number in count())
    name = next(names)

    def look() -> str:
        nonlocal name
        open_ca(ca.folder)
        state = "new" if str(name) in load_revocations(ca.folder, "cluster.local").ids else "old"
        check_log(ca.folder)
        name = next(names)
        return state

    killed_at_every_step(lambda: revoke_id(ca, name, NOW), look)


def begin_files(top: Path) -> None:
    """Each kill finds a full log, and an old part to drop; afterwards its chain is whole."""
    folder = make_ca(top / "ca", "cluster.local", NOW).folder
    now = NOW
    set_limits(folder, LogLimits(LEAST_SIZE, keep=1))

    def act() -> None:
        append(folder, "looked", {"at": now}, now)

    def look() -> str:
        nonlocal now
        list(entries(folder))  # whole even before the next writer has settled what is ready
        open_ca(folder)
        state = "new" if any(one.facts.get("at") == now for one in entries(folder)) else "old"
        check_log(folder)
        now += 40 * 86400
        fill()
        return state

    def fill() -> None:
        while (folder / LOG).stat().st_size < LEAST_SIZE:
            append(folder, "filled", {"with": "x" * 20_000}, now)

    fill()
    killed_at_every_step(act, look)
    check_log(folder)
    parts = sorted(folder.glob("issued-*.jsonl"))
    assert len(parts) <= 2, "the oldest was dropped"
    assert next(entries(folder)).number > 1


if __name__ == "__main__":
    {
        "ca": make_cas,
        "identity": replace_identities,
        "join": join,
        "rotate": turn_over,
        "revoke": revoke,
        "log": begin_files,
    }[sys.argv[1]](Path(sys.argv[2]))
