"""Rows 7 to 11: servers that are silent, refuse, hang, are all left out, or come and go."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime

import pytest
from support.daemon import free_port
from support.raw_caller import Reply
from support.raw_upstream import RawUpstream, reply
from support.wire import tool

from .world import JSON, World, silent, started

CALL = tool("read_file", path="/srv/a")
ENTRY = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: mcp-prod}}
spec:
  hosts: [{name}.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{endpoints}]
"""
RULE = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: mcp-prod}}
spec:
  host: {name}.local
  trafficPolicy: {policy}
"""
EJECT = (
    "{{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {{{run}: 2, interval: {interval}, "
    "baseEjectionTime: {base}, maxEjectionPercent: {percent}, minHealthPercent: {panic}}}}}"
)
ONE = "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 300ms}}}"
INTERVAL = 0.4  # of the one that comes and goes
ERRORS, GATEWAY = "consecutive5xxErrors", "consecutiveGatewayErrors"


def ejecting(
    base: str = "60s",
    percent: int = 100,
    panic: int = 0,
    run: str = ERRORS,
    interval: str = "100ms",
) -> str:
    return EJECT.format(run=run, base=base, percent=percent, panic=panic, interval=interval)


class Moody(RawUpstream):
    """A server that answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        super().__init__(otherwise=lambda one: reply(b"said", self.status)(one))


class Backlog:
    """A port whose queue of connections is full, so that a further one hangs."""

    def __init__(self, stack: ExitStack) -> None:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        self.port = int(listening.getsockname()[1])
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))


# Who is behind each name: how many servers, or one that is none, and the policy.
SERVICES: dict[str, tuple[int, str]] = {
    "silent": (1, ONE),
    "refusing": (0, ejecting()),
    "hanging": (0, ONE),
    "none": (3, ejecting()),
    "panic": (3, ejecting(panic=50)),
    "most": (3, ejecting(percent=50)),
    "flapping": (2, ejecting(base="500ms", percent=50, run=GATEWAY, interval="400ms")),
}


@pytest.fixture(scope="module")
def replicas() -> dict[str, list[Moody]]:
    return {name: [Moody() for _ in range(number)] for name, (number, _) in SERVICES.items()}


@pytest.fixture(scope="module")
def world(
    replicas: dict[str, list[Moody]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with ExitStack() as stack:
        spare = {"refusing": free_port(), "hanging": Backlog(stack).port}
        documents = ""
        for name, (_, policy) in SERVICES.items():
            ports = [one.port for one in replicas[name]] or [spare[name]]
            ends = ", ".join(f"{{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in ports)
            documents += ENTRY.format(name=name, endpoints=ends)
            documents += RULE.format(name=name, policy=policy)
        servers: dict[str, RawUpstream] = {"usual": RawUpstream()}
        for name, members in replicas.items():
            servers |= {f"{name}-{number}": one for number, one in enumerate(members)}
        inbound = {name: {"to": f"http://{name}.local"} for name in SERVICES}
        folder = tmp_path_factory.mktemp("unreachable")
        limits = {"callTimeout": "1s"}
        yield stack.enter_context(started(folder, servers, documents, inbound, limits=limits))


def ask(world: World, name: str, times: int = 1) -> list[Reply]:
    with world.caller(name) as alice:
        return [alice.ask("POST", "/mcp", CALL, JSON) for _ in range(times)]


def of(world: World, name: str, what: str) -> float:
    return world.of(f"{name}.local", what)


# -- 7


def test_row_07_a_server_that_never_answers_is_let_go_and_its_place_is_free(
    world: World, replicas: dict[str, list[Moody]]
) -> None:
    (server,) = replicas["silent"]
    usual, server.otherwise = server.otherwise, silent
    (answer,) = ask(world, "silent")
    assert answer.status == 504
    assert b'"reason":"timeout"' in answer.body
    assert len(server.seen) == 1, "it may have been heard, so it is not sent again"
    assert server.until(lambda: server.live == 0)
    server.otherwise = usual
    assert ask(world, "silent")[0].status == 200
    assert of(world, "silent", "upstream_rq_timeout") == 1


# -- 8


def test_row_08_a_refused_connection_fails_at_once_and_counts(world: World) -> None:
    first, second, third = ask(world, "refusing", 3)
    assert {first.status, second.status, third.status} == {503}
    assert b'"reason":"upstream"' in first.body
    assert of(world, "refusing", "outlier_detection.ejections_active") == 1
    tries = of(world, "refusing", "upstream_cx_connect_fail")
    assert of(world, "refusing", "upstream_rq_retry") >= 1, "what was never sent is tried again"
    assert ask(world, "refusing")[0].status == 503
    assert of(world, "refusing", "upstream_cx_connect_fail") == tries, "it is left alone"


# -- 9


def test_row_09_a_connection_that_hangs_is_given_up(world: World) -> None:
    (answer,) = ask(world, "hanging")
    assert answer.status == 504
    assert of(world, "hanging", "upstream_cx_connect_timeout") >= 1
    assert of(world, "hanging", "upstream_rq_timeout") == 0, "no server was too slow: none was"


# -- 10


def failing(members: list[Moody], status: int = 503) -> None:
    for one in members:
        one.status = status


def test_row_10_where_all_servers_are_left_out_callers_are_told_at_once_when_to_come(
    world: World, replicas: dict[str, list[Moody]]
) -> None:
    failing(replicas["none"])
    ask(world, "none", 6)
    assert of(world, "none", "membership_healthy") == 0
    before = sum(len(one.seen) for one in replicas["none"])
    (answer,) = ask(world, "none")
    assert answer.status == 503
    assert b'"reason":"upstream"' in answer.body
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert sum(len(one.seen) for one in replicas["none"]) == before


def test_row_10_below_the_share_that_must_be_healthy_all_are_asked_again(
    world: World, replicas: dict[str, list[Moody]]
) -> None:
    failing(replicas["panic"])
    ask(world, "panic", 6)
    assert of(world, "panic", "membership_healthy") == 0
    failing(replicas["panic"], 200)
    assert {one.status for one in ask(world, "panic", 9)} == {200}


def test_row_10_no_more_than_the_share_that_was_said_is_left_out(
    world: World, replicas: dict[str, list[Moody]]
) -> None:
    failing(replicas["most"])
    ask(world, "most", 30)
    assert of(world, "most", "membership_healthy") == 2
    assert of(world, "most", "outlier_detection.ejections_overflow") > 0


# -- 11


def test_row_11_a_server_that_comes_and_goes_is_left_out_longer_each_time(
    world: World, replicas: dict[str, list[Moody]]
) -> None:
    good, bad = replicas["flapping"]
    active = "outlier_detection.ejections_active"
    for _ in range(3):
        bad.status, before = 502, len(bad.seen)
        statuses = [one.status for one in ask(world, "flapping", 12)]
        assert statuses.count(502) == 2, "two failures in a row, and then none"
        assert len(bad.seen) - before == 2, "it gets its share when it is back, and no rush"
        bad.status = 200
        assert bad.until(lambda: of(world, "flapping", active) == 0)
    assert len(good.seen) == 30
    away = bad.until(lambda: len(times_away(world, bad)) == 3)
    assert away, world.daemon.records()
    terms, back = 0, float("inf")
    for out, returned in times_away(world, bad):
        healthy = int((out - back) / INTERVAL) if terms else 0  # it is forgiven one for each
        terms = max(0, terms - (healthy and healthy + 1)) + 1
        assert returned - out > 0.5 * terms - 0.05
        back = returned


def times_away(world: World, server: Moody) -> list[tuple[float, float]]:
    """Return from when to when *server* was left out, each time."""
    mine = [
        one for one in world.daemon.records() if one.get("endpoint", "").endswith(f":{server.port}")
    ]
    at = [datetime.fromisoformat(one["ts"]).timestamp() for one in mine]
    return list(zip(at[::2], at[1::2], strict=False))
