"""The composition root: everything is made here, joined here, reloaded and ended here.

Only here is the clock read and randomness drawn; everything below is handed
them. A reload compiles a whole new snapshot and swaps one reference, or changes
nothing and says why. The end is a drain: ready no more, nothing new, what runs
finishes.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from json import dumps
from typing import Final

from . import __version__
from .admin.pages import pages
from .admin.server import AdminServer, default_socket
from .bridge.bridges import Bridges
from .config.documents import MtlsMode
from .config.problem import ConfigError
from .config.snapshot import Service, Snapshot, callers
from .doors import Doors
from .drain import drain
from .errors import StartError
from .exchange import World, serve
from .health import Health
from .http.h1 import Bounds
from .http.h2_plain import strange
from .http.lines import LineTables
from .ids import request_ids
from .log import Log
from .memory import Housekeeping, settle
from .net.caller import Connection, Door, Times
from .net.clusters import Clusters
from .net.deadlines import Deadlines
from .net.dial import Dialler
from .net.listener import Gate, Mtls, peer_of
from .net.means import Means
from .net.tasks import Tasks
from .net.tls import Identity
from .notices import Notices
from .observe.family import Family
from .observe.journal import Journal
from .observe.metrics import Metrics, limiter_metrics
from .plan import Plan, needing_restart
from .policy.call import Peer
from .reload import Reload
from .remote.jwks import KeyKeeper
from .replies import forwarded_client_cert
from .rotation import Rotation
from .standing import ClockWatch, end_outlived, judge_again, withdraw
from .systemd import Inherited, Manager

_SWEEP_EVERY: Final = 0.25  # seconds: how late an ejected endpoint may return


class App:
    """One running sidecar. *load* reads the configuration and raises ConfigError or StartError."""

    def __init__(
        self,
        load: Callable[[], Plan],
        render: Callable[[ConfigError], str],
        environment: Mapping[str, str],
    ) -> None:
        self._load = load
        self._render = render
        self._environment = environment
        self._ending = asyncio.Event()
        self._manager = Manager(environment)
        self._inherited = Inherited(self._manager.sockets())
        self._live: set[Connection] = set()
        self._random = random.SystemRandom()
        self._clock = ClockWatch(time.time, time.monotonic)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises StartError where it cannot start."""
        plan = self._load()
        await self._assemble(plan)
        try:
            await self._start(plan)
            await self._ending.wait()
            await self._drain()
        finally:
            await self._end()

    # -- making

    async def _assemble(self, plan: Plan) -> None:
        loop = asyncio.get_running_loop()
        limits = plan.snapshot.limits
        self._plan = plan
        self._log = Log(plan.access)
        self._metrics = Metrics(__version__, limits.tools_in_metrics, self._gauges)
        self._tasks = Tasks(self._report)
        self._deadlines = Deadlines(loop, time.monotonic)
        self._bridges = Bridges(
            self._tasks,
            time.monotonic,
            self._environment,
            self._say,
            lambda: f"{self._random.getrandbits(128):032x}",
        )
        kept = (limits.remembered_line_bytes, limits.remembered_peers)
        self._tables = LineTables(*kept)
        journal = Journal(
            self._metrics,
            time.time,
            writes=plan.access != "none",
            remembers=limits.remembered_request_bytes,
        )
        self._notices = notices = Notices(journal, self._metrics)
        clusters = Clusters(
            Means(
                tasks=self._tasks,
                deadlines=self._deadlines,
                tables=LineTables(*kept, replies=True),
                bounds=Bounds(
                    limits.reply_head_bytes, limits.request_fields, 0, limits.write_buffer_bytes
                ),
                now=time.monotonic,
                random=self._random.random,
                tell=notices.ejections,
                dialler=Dialler(self._identity, time.time, notices.server_refused),
                inside=self._bridges.connect,
            )
        )
        self._world = World(
            plan.snapshot, clusters, journal, time.monotonic, time.time, request_ids(), self._report
        )
        self._reload = Reload(
            self._load,
            self._accept,
            self._reloaded,
            self._render,
            journal,
            self._tasks,
            self._prepare,
        )
        self._keys = KeyKeeper(self._tasks.spawn, time.monotonic, self._say)
        self._rotation = (
            None
            if plan.identity is None
            else Rotation(
                plan.identity,
                time.time,
                lambda: self._random.uniform(-1, 1),
                self._say,
                self._judge_again,
            )
        )
        self._gate = Gate(
            mode=self._mode,
            identity=self._identity,
            wall=time.time,
            failed=notices.handshake_failed,
            shook=notices.shook,
        )
        self._gate.limit(limits.connections, limits.handshakes, limits.handshake_timeout)
        self._doors = Doors(self._gate, self._tasks, self._inherited, self._door)
        self._health = health = Health(
            self._doors.listeners, self._live, clusters, self._rotation, self._reload, time.time
        )
        self._admin = AdminServer(pages(journal, clusters, health.unready, health.stats))

    async def _start(self, plan: Plan) -> None:
        if self._rotation is not None:
            await self._rotation.start()
            self._tasks.keep(self._rotation.run, "rotation")
        await self._prepare(plan)
        self._keys.keep(plan.snapshot.key_rings)
        self._bridges.keep(plan.programs)
        self._world.adopt(plan.snapshot)
        self._deadlines.start()
        self._tasks.spawn(self._log.run(self._world.journal), "log")
        self._tasks.spawn(self._sweep(), "sweep")
        await self._admin.start(plan.admin or self._default_admin(plan.name))
        self._doors.take(plan.snapshot, self._doors.bind(plan.snapshot))
        for address in self._inherited.close():
            self._say(f"a socket on {address} was handed over, and nothing listens there")
        self._signals()
        if plan.warnings:
            print(plan.warnings, file=sys.stderr)
        settle()
        self._announce(plan)
        self._manager.ready(self._health.line())
        if self._manager.watchdog:
            self._tasks.spawn(self._give_signs_of_life(), "watchdog")

    def _identity(self) -> Identity | None:
        return self._rotation.current if self._rotation is not None else None

    def _door(self, service: Service, snapshot: Snapshot) -> Door:
        limits = snapshot.limits
        return Door(
            inbound=service.listen,
            port=service.port,
            bounds=Bounds(
                limits.request_head_bytes,
                limits.request_fields,
                service.body_bytes,
                limits.write_buffer_bytes,
            ),
            times=Times(
                limits.request_head_timeout, limits.request_body_timeout, limits.idle_timeout
            ),
            tables=self._tables,
            deadlines=self._deadlines,
            serve=lambda request, down: serve(request, down, self._world),
            spawn=self._tasks.spawn,
            report=self._report,
            live=self._live,
            identify=self._identify,
            streams=limits.streams,
            http2=service.http2,
            h2c=service.h2c,
            broke=self._notices.broke,
        )

    def _identify(self, transport: asyncio.BaseTransport, down: Connection) -> Peer | None:
        peer = peer_of(transport, self._gate)
        if peer is not None and self._rotation is not None and self._rotation.current is not None:
            own = str(self._rotation.current.svid.id)
            down.forwarded_for = forwarded_client_cert(own, peer)
            down.expires = time.monotonic() + peer.not_after - time.time()
        if self._health.draining:  # it was accepted before, and is told with its first reply
            asyncio.get_running_loop().call_soon(down.drain)
        return peer

    def _mode(self, inbound: str) -> Mtls:
        service = self._world.snapshot.services.get(inbound)
        return Mtls.STRICT if service is None else Mtls(service.mtls.value)

    def _default_admin(self, name: str) -> str:
        return default_socket(self._environment, name, tempfile.gettempdir(), os.getuid())

    def _signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        for ending in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(ending, self._end_soon)

    # -- reloading

    def _reload_soon(self) -> None:
        if not self._health.draining:
            self._manager.reloading()
            self._reload.soon()

    async def _prepare(self, plan: Plan) -> None:
        await self._keys.prepare(plan.snapshot.key_rings)
        await self._world.clusters.prepare(plan.snapshot.clusters)

    def _accept(self, plan: Plan) -> None:
        """Take a whole new configuration, or none of it. Raises StartError."""
        self._log.reopen()
        old, new = self._world.snapshot, plan.snapshot
        if old.allow_policies and not new.allow_policies and not new.allow_empty:
            raise StartError(
                "no ALLOW policy would be left for this workload, and nobody could call it",
                help="put one back, or set `allowEmpty: true` in the bootstrap to mean it",
            )
        bound = self._doors.bind(new)
        self._keys.keep(new.key_rings)
        self._bridges.keep(plan.programs)
        self._world.adopt(new)
        self._doors.take(new, bound)
        limits = new.limits
        self._gate.limit(limits.connections, limits.handshakes, limits.handshake_timeout)
        if self._rotation is not None and plan.identity is not None:
            self._rotation.take(plan.identity)
        self._withdraw()
        for what in needing_restart(self._plan, plan):
            self._say(f"`{what}` has changed, which takes effect at the next start")
        self._plan = plan
        self._say("configuration reloaded: " + self._who(plan))

    def _reloaded(self) -> None:
        self._manager.ready(self._health.line())

    def _judge_again(self) -> None:
        """End what goes on with whom nobody may believe any more."""
        if self._rotation is not None and self._rotation.current is not None:
            count = judge_again(self._live, self._rotation.current)
            self._world.clusters.judge_again()
            self._world.journal.event({"event": "trust_changed", "disowned": count})

    def _withdraw(self) -> None:
        """End what the new configuration would not have let begin."""
        withdraw(self._live, self._world.snapshot, self._mode, time.time())

    # -- ending

    def _end_soon(self) -> None:
        if self._health.draining:
            os._exit(1)  # asked a second time: now
        self._health.draining = True
        self._ending.set()

    async def _drain(self) -> None:
        """Accept nothing new, let what runs finish, up to the limit."""
        self._say("draining: ready no more, finishing what runs")
        self._manager.stopping("draining")
        self._doors.stop()
        limit = self._world.snapshot.limits.drain_timeout
        await drain(self._live, lambda: self._doors.shaking, limit)

    async def _end(self) -> None:
        self._doors.stop()
        await self._admin.stop()
        self._deadlines.stop()
        for cluster in self._world.clusters:
            cluster.close()
        await self._bridges.stop()
        await self._tasks.end()
        await self._log.flush(self._world.journal)
        self._log.close()

    # -- what goes on beside the calls

    async def _sweep(self) -> None:
        housekeeping = Housekeeping()
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            now = self._world.now()
            self._world.clusters.sweep(now)
            self._bridges.look(now)
            housekeeping.tend(self._metrics.handshakes, len(self._live), now)
            self._clock.look(self._live)
            if self._world.snapshot.tokens is not None:
                end_outlived(self._live, time.time())

    async def _give_signs_of_life(self) -> None:
        # From the loop that serves: a loop that is stuck gives none.
        while True:
            self._manager.alive()
            await asyncio.sleep(self._manager.watchdog)

    def _gauges(self) -> Iterator[Family]:
        yield from self._health.gauges()
        yield from limiter_metrics(self._world.limiter)
        yield from self._bridges.metrics()

    # -- what is told to a person or written down

    def _announce(self, plan: Plan) -> None:
        for service in plan.snapshot.services.values():
            where = self._doors.listeners[service.listen].address
            if service.local is not None:
                self._say(f"plain HTTP on {where} for local processes, to {service.cluster}")
                continue
            scheme = "http" if service.mtls is MtlsMode.DISABLE else "https"
            target = ", ".join(self._world.clusters.addresses(service.cluster))
            self._say(f"{scheme}://{where} (mTLS {service.mtls.value}) to {target}")
            client = {"type": "http", "url": f"{scheme}://{where}/mcp"}
            self._say("for clients: " + dumps({"mcpServers": {plan.name: client}}))
        self._say(f"admin on {self._admin.address}")
        if why := strange():
            self._say(f"HTTP/2 takes more time than it could: {why}")
        if any(service.local is None for service in plan.snapshot.services.values()):
            self._say(self._who(plan))
        why = self._health.unready()
        self._say(f"listening, and not ready: {why}" if why else "ready")

    def _who(self, plan: Plan) -> str:
        allowed = callers(plan.snapshot)
        if not allowed:
            return "nobody may call: no ALLOW policy is for this workload"
        return "who may call, within the rules: " + ", ".join(allowed[:8])

    def _say(self, text: str) -> None:
        print(f"sidecar: {text}", file=sys.stderr, flush=True)

    def _report(self, what: str, fault: BaseException) -> None:
        self._metrics.faults += 1
        lines = traceback.format_exception(fault)
        self._say(f"a fault in {what}, please report it:\n{''.join(lines)}")
