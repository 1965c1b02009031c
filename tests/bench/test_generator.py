"""The load counts what was answered, in each of its ways."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace

import pytest
from race import generator
from race.certs import Identities
from race.generator import Load, Order, TooManyErrors, Yield, is_whole
from race.site import free_port


def _order(identities: Identities, port: int) -> Order:
    return Order(
        port=port,
        chain=str(identities.agent.chain),
        key=str(identities.agent.key),
        seconds=0.3,
        warmup=0.1,
        connections=4,
    )


def _run(order: Order) -> Yield:
    load = Load(order)
    try:
        return load.run()
    finally:
        load.close()


def test_a_saturating_load_keeps_its_connections(identities, served) -> None:
    outcome = _run(_order(identities, served.port))
    assert outcome.requests > 0
    assert (outcome.refused, outcome.errors, outcome.fault) == (0, 0, "")
    assert 0 < outcome.p50_us <= outcome.p99_us
    assert served.handshakes == 4
    assert len(served.requests) >= outcome.requests


def test_a_fixed_rate_sends_about_as_often_as_intended(identities, served) -> None:
    outcome = _run(replace(_order(identities, served.port), way="rate", rate=200.0))
    assert outcome.errors == 0
    assert outcome.requests + outcome.unsent <= 0.3 * 200 * 2
    assert outcome.requests > 0
    assert served.handshakes == 4


def test_new_connections_shake_hands_for_every_request(identities, served) -> None:
    outcome = _run(replace(_order(identities, served.port), way="connect"))
    assert outcome.requests > 0
    assert outcome.errors == 0
    assert served.handshakes >= outcome.requests


def test_a_body_larger_than_a_record_arrives_whole(identities, served) -> None:
    outcome = _run(replace(_order(identities, served.port), body_bytes=60_000))
    assert outcome.requests > 0
    assert (outcome.refused, outcome.errors) == (0, 0)


def test_refusals_are_counted_and_the_first_is_quoted(identities, refusing) -> None:
    outcome = _run(_order(identities, refusing.port))
    assert outcome.refused == outcome.requests > 0
    assert outcome.fault.startswith("HTTP/1.1 403")


def test_the_watched_process_is_measured_in_the_window(identities, served) -> None:
    outcome = _run(replace(_order(identities, served.port), watch=os.getpid()))
    assert outcome.cpu_us > 0
    assert 0 < outcome.cpu_share <= (os.cpu_count() or 1) * 1.1
    assert outcome.rss_bytes > 1 << 20


def test_a_proxy_that_hangs_up_on_everyone_ends_the_load(identities) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_hang_up, args=(listener,))
        thread.start()
        order = replace(_order(identities, listener.getsockname()[1]), seconds=20)
        with pytest.raises(TooManyErrors):
            _run(order)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _hang_up(listener: socket.socket) -> None:
    try:
        while True:
            with listener.accept()[0] as caller:
                caller.recv(1)
    except OSError:  # the listener is closed: the test is over
        return


def test_a_port_nobody_listens_on_is_said_at_once(identities) -> None:
    with pytest.raises(TooManyErrors, match="cannot connect"):
        _run(_order(identities, free_port()))


@pytest.mark.parametrize(
    ("reply", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length:2\r\nx: y\r\n\r\nhi", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", True),
    ],
)
def test_a_reply_is_whole_when_its_framing_says_so(reply: bytes, whole: bool) -> None:
    assert is_whole(reply) is whole


@pytest.mark.parametrize(
    ("latencies", "share", "expected"),
    [([], 0.5, 0.0), ([1.0], 0.99, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 3.0)],
)
def test_a_quantile_is_one_of_the_values(latencies, share, expected) -> None:
    assert generator._quantile(latencies, share) == expected
