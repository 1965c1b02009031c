"""The load over HTTP/2 keeps to the protocol, and counts what was answered."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hpack import Encoder
from race.certs import Identities
from race.generator import Order, TooManyErrors, Yield
from race.h2_generator import H2Load, status_of
from support.http2_server import Manners


def _order(identities: Identities, port: int) -> Order:
    return Order(
        port=port,
        chain=str(identities.agent.chain),
        key=str(identities.agent.key),
        seconds=0.4,
        warmup=0.1,
        connections=3,
    )


def _run(order: Order) -> Yield:
    load = H2Load(order)
    try:
        return load.run()
    finally:
        load.close()


@pytest.mark.parametrize("all_new", [False, True])
def test_connections_are_kept_and_no_two_requests_are_alike(
    identities, serving_http2, all_new: bool
) -> None:
    served = serving_http2(Manners())
    outcome = _run(replace(_order(identities, served.port), all_new=all_new, watch=os.getpid()))
    assert outcome.requests > 0
    assert (outcome.refused, outcome.errors, outcome.fault) == (0, 0, "")
    assert 0 < outcome.p50_us <= outcome.p99_us
    assert outcome.cpu_us > 0
    assert served.handshakes == 3
    assert len(set(served.requests)) == len(served.requests) >= outcome.requests
    assert served.faults == []


def test_a_connection_has_as_many_streams_as_were_ordered(identities, serving_http2) -> None:
    served = serving_http2(Manners())
    outcome = _run(replace(_order(identities, served.port), connections=1, streams=5))
    assert outcome.requests > 0
    assert served.faults == []
    assert served.handshakes == 1
    assert 1 < served.most_at_once <= 5


def test_requests_wait_for_the_window_of_the_connection(identities, serving_http2) -> None:
    # Eight bodies of 30 000 bytes at a time do not fit into the 65 535 that there are.
    served = serving_http2(Manners())
    outcome = _run(replace(_order(identities, served.port), body_bytes=30_000, streams=8))
    assert outcome.requests > 0
    assert (outcome.refused, outcome.errors) == (0, 0)
    assert served.faults == []


def test_a_window_too_small_for_a_body_is_said(identities, serving_http2) -> None:
    served = serving_http2(Manners(stream_window=2000))
    with pytest.raises(TooManyErrors, match="window of 2000 bytes"):
        _run(replace(_order(identities, served.port), body_bytes=1950))


def test_refusals_are_counted_and_the_first_is_quoted(identities, serving_http2) -> None:
    served = serving_http2(Manners(status=403))
    outcome = _run(_order(identities, served.port))
    assert outcome.refused == outcome.requests > 0
    assert outcome.fault == "HTTP/2 403"


def test_a_ping_is_answered(identities, serving_http2) -> None:
    served = serving_http2(Manners(pings=True))
    assert _run(_order(identities, served.port)).errors == 0
    assert served.pongs == 3


def test_a_stream_that_is_reset_is_an_error_and_the_load_goes_on(identities, serving_http2) -> None:
    served = serving_http2(Manners(reset=20))
    load = H2Load(replace(_order(identities, served.port), connections=1))
    try:
        load.run()
    finally:
        load.close()
    assert load.fault == "stream reset with code 2"
    assert served.handshakes == 1
    assert len(served.requests) > 20


def test_a_proxy_that_goes_away_is_left_without_an_error(identities, serving_http2) -> None:
    served = serving_http2(Manners(go_away=10))
    outcome = _run(replace(_order(identities, served.port), streams=2))
    assert (outcome.refused, outcome.errors, outcome.fault) == (0, 0, "")
    assert outcome.requests > 0
    assert served.handshakes > 3


def test_a_proxy_that_speaks_only_http1_is_found_out(identities, served) -> None:
    with pytest.raises(TooManyErrors, match="does not speak HTTP/2"):
        _run(_order(identities, served.port))


@pytest.mark.parametrize("huffman", [False, True])
@pytest.mark.parametrize("status", [200, 204, 304, 403, 404, 429, 500, 503])
def test_a_status_is_read_from_a_block_of_the_library(status: int, huffman: bool) -> None:
    lines = [(":status", str(status)), ("content-type", "application/json")]
    encoder = Encoder()
    assert status_of(encoder.encode(lines, huffman=huffman)) == status
    encoder.header_table_size = 200  # the next block begins with the new size
    assert status_of(encoder.encode(lines[:1], huffman=huffman)) in (status, 0)


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"\x88", 200),
        (b"\x20\x88", 200),
        (b"\x3f\xe1\x1f\x88", 200),
        (b"\x48\x03403", 403),
        (b"\x08\x03403", 403),
        (b"\x18\x03403", 403),
        (b"\xbe", 0),
        (b"\x5f\x05plain", 0),
    ],
)
def test_a_status_is_read_whatever_its_form(block: bytes, status: int) -> None:
    assert status_of(block) == status
