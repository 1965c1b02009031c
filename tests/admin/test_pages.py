"""The admin pages: alive, ready, and every number of every cluster."""

from __future__ import annotations

import json

from support.clusters import EJECT, OK, Net
from support.memory import in_memory
from support.records import call_of, counted

from sidecar.admin.pages import cluster_gauges, cluster_stats, pages
from sidecar.observe.journal import Journal
from sidecar.observe.metrics import Metrics
from sidecar.upstream.outlier import Outcome


def journal(metrics: Metrics) -> Journal:
    return Journal(metrics, lambda: 0.0, writes=True)


def told(page_body: bytes) -> dict[str, float]:
    pairs = (line.split(": ") for line in page_body.decode().splitlines())
    return {name: float(value) for name, value in pairs}


@in_memory
async def test_alive_is_not_ready() -> None:
    why = ["no identity yet"]
    site = pages(journal(Metrics("1", 1)), Net().clusters, lambda: why[0], list)
    assert site["/healthz"]("").status == 200
    for path in ("/readyz", "/ready"):
        assert (site[path]("").status, site[path]("").body) == (503, b"no identity yet\n")
    why[0] = ""
    assert (site["/readyz"]("").status, site["/readyz"]("").body) == (200, b"ready\n")


@in_memory
async def test_stats_are_sorted_and_whole_numbers_stay_whole() -> None:
    net = Net()
    metrics = counted(call_of("a"))
    expiry = 1_767_225_599.0
    site = pages(
        journal(metrics), net.clusters, str, lambda: [("server.certificate_expiry", expiry)]
    )
    body = site["/stats"]("").body
    assert body.splitlines() == sorted(body.splitlines())
    stats = told(body)
    assert stats["server.certificate_expiry"] == expiry
    assert stats["http.inbound.rbac.allowed"] == 1
    assert b"server.certificate_expiry: 1767225599\n" in body


@in_memory
async def test_a_cluster_tells_what_is_under_way_and_what_was() -> None:
    net = Net(endpoints=("a:80", "b:80"), outlier=EJECT, max_connections=2, max_pending=1)
    first, second = await net.lent(), await net.lent()
    net.asked()
    net.ask()
    for _ in range(2):
        net.cluster.failed(first.endpoint, Outcome.TIMEOUT, net.loop.clock())
    net.send(second, OK)
    second.answered(200, net.loop.clock())
    stats = cluster_stats(net.cluster)
    wanted = {
        "upstream_cx_active": 2,
        "upstream_cx_total": 2,
        "upstream_cx_overflow": 1,
        "upstream_rq_active": 3,
        "upstream_rq_total": 3,
        "upstream_rq_pending_active": 1,
        "upstream_rq_pending_total": 1,
        "upstream_rq_pending_overflow": 1,
        "upstream_rq_timeout": 2,
        "upstream_rq_2xx": 1,
        "upstream_rq_5xx": 0,
        "membership_total": 2,
        "membership_healthy": 1,
        "outlier_detection.ejections_active": 1,
        "outlier_detection.ejections_enforced_consecutive_5xx": 1,
    }
    assert {name: stats[name] for name in wanted} == wanted
    site = pages(journal(Metrics("1", 1)), net.clusters, str, list)
    assert told(site["/stats"]("").body)["cluster.files.upstream_rq_active"] == 3
    lines = site["/clusters"]("").body.decode().splitlines()
    assert lines == [
        "files::a:80 ejected 1x, 2 in flight, 2 calls",
        "files::b:80 in, 1 in flight, 1 calls",
    ]


@in_memory
async def test_a_scrape_tells_of_the_clusters_too() -> None:
    net = Net(endpoints=("a:80",), max_connections=1)
    await net.lent()
    net.asked()
    metrics = Metrics("1", 1, lambda: cluster_gauges(net.clusters))
    page = pages(journal(metrics), net.clusters, str, list)["/metrics"]("")
    assert page.content_type.startswith("text/plain; version=0.0.4")
    lines = page.body.decode().splitlines()
    assert 'sidecar_upstream_ejected{cluster="files",endpoint="a:80"} 0.0' in lines
    assert 'sidecar_upstream_connections{cluster="files"} 1.0' in lines
    assert 'sidecar_upstream_pending{cluster="files"} 1.0' in lines


@in_memory
async def test_a_request_is_told_by_its_id_while_it_is_remembered() -> None:
    kept = journal(Metrics("1", 1))
    why = pages(kept, Net().clusters, str, list)["/why"]
    assert (why("id=id-1").status, json.loads(why("id=id-1").body)["remembered"]) == (404, 0)
    kept.write(call_of("a"), 1.0)
    for _ in range(2):
        (found,) = why("id=id-1").body.splitlines()
        assert json.loads(found)["tool"] == "a"
        kept.take()
    for query in ("", "id=", "id", "x=1", "id=%00"):
        assert (why(query).status, json.loads(why(query).body)["remembered"]) == (404, 1)


@in_memory
async def test_prometheus_is_told_how_each_cluster_answered() -> None:
    net = Net(endpoints=("a:80", "b:80"))
    net.served(await net.lent())
    net.served(await net.lent(avoid=["a:80"]), b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
    lost = await net.lent()
    lost.reset(net.loop.clock())
    net.end(lost)
    samples = {
        (family.name, *labels): value
        for family in cluster_gauges(net.clusters)
        for labels, value in family.values
    }
    assert samples["sidecar_upstream_replies", "files", "2xx"] == 1
    assert samples["sidecar_upstream_replies", "files", "5xx"] == 1
    assert samples["sidecar_upstream_failures", "files", "reset"] == 1
    assert samples["sidecar_upstream_failures", "files", "timeout"] == 0
    assert samples["sidecar_upstream_retries", "files"] == 1
