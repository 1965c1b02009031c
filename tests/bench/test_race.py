"""Peers that are here do the job; the race starts, measures and stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from race import envoy, haproxy, measure, nginx, probe, upstream
from race.command import main
from race.peers import Absent, Peer
from race.site import Binaries, Site, choose_cpus

RACE = Path(__file__).parents[2] / "bench" / "race.py"
OTHERS = [
    nginx.plain,
    nginx.lua,
    nginx.lua_both,
    haproxy.plain,
    haproxy.scan,
    haproxy.scan_both,
    envoy.rbac,
    envoy.mcp,
]


@pytest.fixture
def site() -> Iterator[Site]:
    cpus = choose_cpus(sorted(os.sched_getaffinity(0)))
    binaries = Binaries(envoy=os.environ.get("SIDECAR_BENCH_ENVOY", ""))
    with Site(cpus, binaries) as site:
        upstream.start(site, 1024)
        yield site


@pytest.mark.parametrize("make", OTHERS, ids=lambda make: f"{make.__module__}.{make.__name__}")
def test_a_peer_that_is_here_does_the_job(make: Callable[[Site], Peer], site: Site) -> None:
    try:
        peer = make(site)
    except Absent as absence:
        pytest.skip(str(absence))
    site.start(peer.name, peer.command, site.cpus.proxy)
    probe.wait_until_ready(peer, site)
    assert probe.fault_of(peer, site) == ""


def test_a_peer_that_does_not_do_what_it_claims_is_found_out(site: Site) -> None:
    try:
        peer = nginx.plain(site)
    except Absent as absence:
        pytest.skip(str(absence))
    boaster = Peer(peer.name, peer.command, peer.port, peer.version, scans_requests=True)
    site.start(peer.name, peer.command, site.cpus.proxy)
    probe.wait_until_ready(peer, site)
    assert "let through" in probe.fault_of(boaster, site)


def test_a_peer_that_ends_is_reported_with_what_it_said(site: Site) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such option')")
    peer = Peer("brief", command, 1, "")
    site.start(peer.name, command, site.cpus.proxy)
    with pytest.raises(TimeoutError, match="no such option"):
        probe.wait_until_ready(peer, site)


def test_without_nginx_the_upstream_is_our_own(site: Site, monkeypatch) -> None:
    def absent() -> str:
        raise Absent("not here")

    try:
        peer = haproxy.plain(site)
    except Absent as absence:
        pytest.skip(str(absence))
    site.stop(upstream.NAME)
    monkeypatch.setattr(nginx, "find", absent)
    assert upstream.start(site, 1024) == "Python"
    site.start(peer.name, peer.command, site.cpus.proxy)
    probe.wait_until_ready(peer, site)
    assert probe.fault_of(peer, site) == ""


def test_leaving_a_site_stops_what_it_started_and_removes_its_folder() -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    cpus = choose_cpus(sorted(os.sched_getaffinity(0)))
    with Site(cpus, Binaries()) as site:
        site.start("sleeper", sleeper, cpus.proxy)
        pid, folder = site.pid("sleeper"), site.folder
        assert os.sched_getaffinity(pid) == cpus.proxy
    assert measure.cpu_seconds([pid]) == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    ("available", "expected"),
    [([5], (5, 5, 5)), ([0, 1], (0, 1, 1)), ([2, 4, 6, 8], (2, 4, 6))],
)
def test_the_proxy_has_a_cpu_of_its_own_where_there_are_two(available, expected) -> None:
    cpus = choose_cpus(available)
    chosen = (cpus.proxy, cpus.load, cpus.upstream)
    assert chosen == tuple(frozenset({one}) for one in expected)


@pytest.mark.skipif(not os.environ.get("SIDECAR_LONG_TESTS"), reason="SIDECAR_LONG_TESTS is unset")
def test_a_short_race_prints_its_conditions_and_a_row_a_peer(capsys) -> None:
    modes = ["saturated", "h2", "h2-streams", "h2-worst"]
    brief = ["--rounds", "1", "--seconds", "0.3", "-o", "json"]
    arguments = ["nginx", "haproxy", "--modes", *modes, *brief]
    status = main(arguments)
    out, talk = capsys.readouterr()
    if status == 1:
        assert "not here" in talk
        pytest.skip("neither nginx nor HAProxy is here")
    printed = json.loads(out)
    assert list(printed["modes"]) == modes
    for table in printed["modes"].values():
        assert [row["peer"] for row in table] == list(printed["conditions"]["peers"])
        assert all(row["cpu_us"] > 0 and row["errors"] == row["refused"] == 0 for row in table)


def test_an_unknown_peer_is_named_with_those_there_are(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["ngnix"])
    assert "no peer `ngnix`; there are sidecar," in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_race_that_is_interrupted_stops_all_it_started(sent: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, str(RACE), "haproxy", "--seconds", "20"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    if said.startswith(b"one CPU only"):
        said = process.stderr.readline()
    if b"not here" in said:
        process.wait(20)
        process.stderr.close()
        pytest.skip("HAProxy is not here")
    assert b"does the job" in said
    started = measure.tree(process.pid)[1:]
    assert started
    for _ in range(3):  # as a person would: again, if the first was swallowed at a bad moment
        process.send_signal(sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(8)
            break
    process.stderr.close()
    assert process.returncode
    for _ in range(200):  # what it started may still be on its way out
        left = [pid for pid in started if measure.cpu_seconds([pid])]
        if not left:
            break
        time.sleep(0.02)
    assert left == []
