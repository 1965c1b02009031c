"""A peer is tried over HTTP/2 too, and found out there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from race import envoy, h2_probe, haproxy, nginx, payload, probe, upstream
from race.peers import Absent, Peer
from race.probe import Trial
from race.site import Binaries, Site, choose_cpus
from support.http2_server import Manners


@pytest.fixture
def site() -> Iterator[Site]:
    cpus = choose_cpus(sorted(os.sched_getaffinity(0)))
    with Site(cpus, Binaries(envoy=os.environ.get("SIDECAR_BENCH_ENVOY", ""))) as site:
        yield site


def _started(make: Callable[[Site], Peer], site: Site) -> Peer:
    try:
        peer = make(site)
    except Absent as absence:
        pytest.skip(str(absence))
    upstream.start(site, 1024)
    site.start(peer.name, peer.command, site.cpus.proxy)
    probe.wait_until_ready(peer, site)
    return peer


@pytest.mark.parametrize("make", [nginx.plain, nginx.lua_both, haproxy.scan_both, envoy.mcp])
def test_a_peer_that_is_here_does_the_job_over_http2(make, site: Site) -> None:
    assert h2_probe.fault_of(_started(make, site), site) == ""


def test_a_peer_that_does_not_do_what_it_claims_is_found_out(site: Site) -> None:
    peer = _started(nginx.plain, site)
    boaster = Peer(peer.name, peer.command, peer.port, peer.version, scans_requests=True)
    assert "let through" in h2_probe.fault_of(boaster, site)


def test_a_peer_that_speaks_only_http1_is_said_to(site: Site, monkeypatch) -> None:
    monkeypatch.setattr(haproxy, "_CONFIGURATION", haproxy._CONFIGURATION.replace("h2,", ""))
    peer = _started(haproxy.plain, site)
    assert h2_probe.fault_of(peer, site) == "it does not speak HTTP/2"
    assert probe.fault_of(peer, site) == ""


@pytest.mark.parametrize(
    ("manners", "status"),
    [(Manners(), 200), (Manners(status=403), 403), (Manners(reset=1), probe.REFUSED)],
)
def test_an_answer_counts_when_it_is_whole(identities, serving_http2, manners, status) -> None:
    served = serving_http2(manners)
    trial = Trial("an allowed call", identities.agent, True, payload.call(1024))
    assert h2_probe.answer(served.port, trial, identities.agent.bundle) == status
