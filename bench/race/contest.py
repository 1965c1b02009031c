"""A race: start everything, try everyone, interleave the rounds, stop everything.

A round loads each peer in turn, the next round in the reverse order, so that
what drifts in the machine meets all of them alike. One proxy is loaded at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from race import envoy, h2_probe, haproxy, nginx, probe, sidecar, upstream
from race.generator import Order, Way, Yield
from race.peers import Absent, Peer
from race.site import Site

PEERS: Mapping[str, Callable[[Site], Peer]] = {
    "sidecar": sidecar.everything,
    "sidecar-no-scan": sidecar.no_scan,
    "envoy-mcp": envoy.mcp,
    "envoy": envoy.rbac,
    "nginx-lua": nginx.lua,
    "nginx-lua-both": nginx.lua_both,
    "nginx": nginx.plain,
    "haproxy-scan": haproxy.scan,
    "haproxy-scan-both": haproxy.scan_both,
    "haproxy": haproxy.plain,
}

_PATIENCE_SECONDS = 15.0
_GENERATOR = (sys.executable, "-m", "race.generator")
_H2_GENERATOR = (sys.executable, "-m", "race.h2_generator")


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of loading, as the tables name it."""

    title: str
    way: Way = "saturate"
    all_new: bool = False
    http2: bool = False
    streams: int = 1


MODES: Mapping[str, Mode] = {
    "saturated": Mode("Saturated, connections kept alive"),
    "rate": Mode("Fixed rate, latency from the intended send time", way="rate"),
    "connections": Mode("A new connection with a full handshake for each request", way="connect"),
    "worst": Mode("Saturated, nearly every header line new", all_new=True),
    "h2": Mode("HTTP/2, saturated, connections kept alive", http2=True),
    "h2-streams": Mode("HTTP/2, saturated, 8 streams a connection", http2=True, streams=8),
    "h2-worst": Mode("HTTP/2, saturated, nearly every field new", http2=True, all_new=True),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """How long and how hard: seconds, counts, bytes."""

    rounds: int = 3
    seconds: float = 2.5
    connections: int = 32
    new_connections: int = 8
    rate: float = 1000.0
    request_bytes: int = 1024
    reply_bytes: int = 1024


class Void(Exception):
    """A round of which nothing can be said; the message says why."""


class Race:
    """The peers that take part, and what is said of those that do not."""

    def __init__(self, site: Site, rules: Rules, say: Callable[[str], None]) -> None:
        self.site = site
        self.rules = rules
        self.upstream = ""
        self.cipher = ""
        self._say = say
        self.peers: dict[str, Peer] = {}

    def line_up(self, names: Sequence[str]) -> None:
        """Start the upstream and every peer of *names* that is here and does the job."""
        self.upstream = upstream.start(self.site, self.rules.reply_bytes)
        for name in names:
            try:
                self._admit(PEERS[name](self.site))
            except Absent as absence:
                self._say(f"{name}: not here: {absence}")
            except TimeoutError as error:
                self.site.stop(name)
                self._say(f"{name}: not measured: {error}")

    def _admit(self, peer: Peer) -> None:
        self.site.start(peer.name, peer.command, self.site.cpus.proxy, peer.env)
        seconds = probe.wait_until_ready(peer, self.site)
        fault = probe.fault_of(peer, self.site)
        if fault:
            self.site.stop(peer.name)
            self._say(f"{peer.name}: not measured: {fault}")
            return
        self.peers[peer.name] = peer
        self._say(f"{peer.name}: ready in {seconds * 1000:.0f} ms, does the job ({peer.version})")

    def run(self, mode: Mode) -> dict[str, dict[int, Yield]]:
        """Return what came of each peer in each round; a round that failed is not there."""
        outcomes: dict[str, dict[int, Yield]] = {name: {} for name in self.peers}
        able = [peer for peer in self.peers.values() if self._is_able(peer, mode)]
        for turn, peer in self._turns(able):
            try:
                outcome = self._load(peer, mode)
            except Void as reason:
                self._say(f"{peer.name}: round {turn + 1} is void: {reason}")
                continue
            outcomes[peer.name][turn] = outcome
            self.cipher = outcome.cipher
            self._say(
                f"{mode.title.lower()}, round {turn + 1}/{self.rules.rounds}: {peer.name} "
                f"{outcome.cpu_us:.1f} us {outcome.fault}"
            )
        return outcomes

    def _is_able(self, peer: Peer, mode: Mode) -> bool:
        """Return whether *peer* does the job in *mode* too, and say it where it does not."""
        fault = h2_probe.fault_of(peer, self.site) if mode.http2 else ""
        if fault:
            self._say(f"{peer.name}: not measured over HTTP/2: {fault}")
        return not fault

    def _turns(self, peers: Sequence[Peer]) -> Iterator[tuple[int, Peer]]:
        for turn in range(self.rules.rounds):
            for peer in peers[:: -1 if turn % 2 else 1]:
                yield turn, peer

    def _load(self, peer: Peer, mode: Mode) -> Yield:
        """Load *peer* once; raise Void if nothing can be said of it."""
        order = self._order(peer, mode)
        patience = order.seconds + order.warmup + _PATIENCE_SECONDS
        program = _H2_GENERATOR if mode.http2 else _GENERATOR
        run = self.site.run_load(program, json.dumps(asdict(order)), patience)
        self.site.trim_logs()
        if not self.site.is_running(peer.name):
            raise Void("the proxy has ended")
        if run is None or run.returncode:
            raise Void(run.stderr.strip()[-300:] if run else "the load did not end")
        outcome = Yield(**json.loads(run.stdout))
        if not outcome.requests or not outcome.cpu_us:
            raise Void(f"no request was answered, or no CPU time counted: {outcome.fault}")
        return outcome

    def _order(self, peer: Peer, mode: Mode) -> Order:
        agent, rules = self.site.identities.agent, self.rules
        together = rules.new_connections if mode.way == "connect" else rules.connections
        return Order(
            port=peer.port,
            chain=str(agent.chain),
            key=str(agent.key),
            way=mode.way,
            seconds=rules.seconds,
            connections=max(1, together // mode.streams),
            rate=rules.rate,
            body_bytes=rules.request_bytes,
            all_new=mode.all_new,
            streams=mode.streams,
            watch=self.site.pid(peer.name),
        )
