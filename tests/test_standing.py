"""Who was let in and may be no more: found when trust changes, when the clock is set, and once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support.mint import Files, Mint

from sidecar.errors import PermitWithdrawn
from sidecar.net.tls import Identity, Pair, make_identity
from sidecar.policy.call import Peer
from sidecar.spiffe.bundle import Bundles, TrustBundle
from sidecar.spiffe.revocation import Revocations
from sidecar.spiffe.svid import verify
from sidecar.standing import ClockWatch, judge_again


@dataclass
class Exchange:
    """A call that waits: what it is woken with."""

    thrown: list[Exception] = field(default_factory=list)

    @property
    def wake(self) -> Any:
        return self

    def throw(self, fault: Exception) -> None:
        self.thrown.append(fault)


@dataclass
class Line:
    """A connection of *peer* with one call on it."""

    peer: Peer
    expires: float = 0.0
    exchange: Exchange = field(default_factory=Exchange)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return (self.exchange,)


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint(tmp_path)


def identity(mint: Mint, *roots: bytes) -> Identity:
    files = mint.leaf("mcp-prod/files")
    own = TrustBundle("cluster.local", frozenset(roots or (mint.root_der,)))
    trusted = TrustBundle("cluster.local", frozenset((mint.root_der,)))
    svid = verify(files.chain, Bundles.of([trusted]), mint.now)
    pair = Pair(files.cert.read_bytes(), files.key.read_bytes())
    made = make_identity(svid, Bundles.of([trusted]), pair, mint.now)
    return replace(made, bundles=Bundles.of([own]))


def line(mint: Mint, who: str = "agent/alice", files: Files | None = None) -> Line:
    chain = (files or mint.leaf(who)).chain
    bundles = Bundles.of([TrustBundle("cluster.local", frozenset((chain[-1],)))])
    svid = verify(chain, bundles, mint.now)
    peer = Peer(svid.id, "127.0.0.1", 1, svid.sha256, svid.serial, svid.not_after, "", svid.signers)
    return Line(peer)


def test_nobody_is_disowned_without_a_reason(mint: Mint) -> None:
    plain = Line(Peer(None, "127.0.0.1"))
    lines: list[Any] = [line(mint), plain]
    assert judge_again(lines, identity(mint).denying(Revocations("cluster.local"))) == 0
    assert all(not one.exchange.thrown and not one.peer.revoked for one in lines)


def test_who_is_on_the_list_is_disowned_once_and_others_stay(mint: Mint) -> None:
    bad, good = line(mint, "agent/bad"), line(mint, "agent/good")
    denied = Revocations("cluster.local", 1, frozenset({"spiffe://cluster.local/ns/agent/sa/bad"}))
    lines: list[Any] = [bad, good]
    for count in (1, 0):
        assert judge_again(lines, identity(mint).denying(denied)) == count
    assert bad.peer.not_after < 0
    assert "was revoked" in bad.peer.revoked
    assert [type(one) for one in bad.exchange.thrown] == [PermitWithdrawn]
    assert not good.exchange.thrown


def test_who_was_vouched_for_by_a_dropped_ca_is_disowned(mint: Mint) -> None:
    one = line(mint)
    denied = Revocations("cluster.local", 1, authorities=frozenset({one.peer.signers[0]}))
    lines: list[Any] = [one]
    assert judge_again(lines, identity(mint).denying(denied)) == 1


def test_who_was_vouched_for_by_a_dropped_root_is_disowned(mint: Mint, tmp_path: Path) -> None:
    old, fresh = line(mint), Mint(tmp_path / "fresh")
    new = line(fresh)
    lines: list[Any] = [old, new]
    assert judge_again(lines, identity(mint, mint.root_der, fresh.root_der)) == 0
    assert judge_again(lines, identity(mint, fresh.root_der)) == 1
    assert "root" in old.peer.revoked
    assert not new.peer.revoked


class Clocks:
    def __init__(self) -> None:
        self.wall, self.now = 1_000_000.0, 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds


@pytest.mark.parametrize(("by", "ends"), [(7200.0, True), (-7200.0, False), (0.9, False)])
def test_a_clock_that_is_set_is_noticed(mint: Mint, by: float, ends: bool) -> None:
    clocks, one = Clocks(), line(mint)
    clocks.wall = mint.now
    plain = Line(Peer(None, "127.0.0.1"))
    lines: list[Any] = [one, plain]
    watch = ClockWatch(lambda: clocks.wall, lambda: clocks.now)
    clocks.pass_(100)
    watch.look(lines)
    assert one.expires == 0.0, "time that passes is no news"
    clocks.wall += by
    watch.look(lines)
    assert bool(one.peer.revoked) is ends
    assert not plain.peer.revoked
    if by < 0:
        assert one.expires > clocks.now + 7200 + 3000, "it ends when its certificate does"
