"""What may stand behind a body: by its name and its direction, and never as part of a head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.chunks import ChunkReader
from sidecar.http.trailers import Trailed, passing, takes_trailers, write_trailers

PASSES = [
    *(b"grpc-status", b"grpc-message", b"grpc-status-details-bin", b"server-timing", b"etag"),
    *(
        b"digest",
        b"repr-digest",
        b"content-digest",
        b"x-sum",
        b"x-checksum-sha256",
        b"last-modified",
    ),
]
NEVER = {
    "framing": [b"content-length", b"transfer-encoding"],
    "routing": [b"host", b"forwarded", b"via", b"max-forwards", b"x-forwarded-for", b"x-real-ip"],
    "steers like a target": [b"x-original-url", b"x-http-method-override"],
    "who asks": [b"authorization", b"cookie", b"proxy-authorization", b"origin"],
    "who answers": [b"set-cookie", b"www-authenticate", b"proxy-authenticate"],
    "modifies": [b"cache-control", b"expect", b"range", b"if-match", b"pragma", b"accept"],
    "controls": [b"age", b"date", b"expires", b"location", b"retry-after", b"vary", b"warning"],
    "format": [b"content-type", b"content-encoding", b"content-range", b"content-security-policy"],
    "negotiates": [b"accept-encoding", b"accept-ranges", b"te", b"trailer", b"upgrade"],
    "the hop's": [b"connection", b"keep-alive", b"proxy-connection", b"http2-settings"],
    "ours": [b"x-forwarded-client-cert", b"client-cert", b"x-spiffe-id", b"x-request-id"],
    "steers a retry": [b"x-envoy-ratelimited", b"x-envoy-overloaded"],
    "a session's": [b"mcp-session-id", b"mcp-method", b"mcp-name", b"mcp-param-a"],
}


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("request_", [True, False], ids=["request", "reply"])
def test_what_is_made_of_a_body_or_means_nothing_here_passes(name: bytes, request_: bool) -> None:
    assert passing([(name, b"1")], (), request=request_) == [(name, b"1")]


@pytest.mark.parametrize("names", NEVER.values(), ids=NEVER.keys())
@pytest.mark.parametrize("request_", [True, False], ids=["request", "reply"])
def test_what_has_to_be_known_before_a_body_goes_no_further(
    names: list[bytes], request_: bool
) -> None:
    twins = [name.replace(b"-", b"_") for name in names]
    assert passing([(name, b"1") for name in names + twins], (), request=request_) == []


def test_an_underscore_passes_from_a_server_alone() -> None:
    assert passing([(b"my_key", b"1")], (), request=False) == [(b"my_key", b"1")]
    assert passing([(b"my_key", b"1")], (), request=True) == []


def test_what_the_head_lists_as_the_hops_goes_no_further() -> None:
    head = [(b"connection", b"close, X-Hop"), (b"connection", b"x-other"), (b"x-sum", b"x-no")]
    given = [(b"x-hop", b"1"), (b"x-sum", b"2"), (b"x-other", b"3"), (b"x-no", b"4")]
    assert passing(given, head, request=False) == [(b"x-sum", b"2"), (b"x-no", b"4")]


def test_names_may_be_kept_back() -> None:
    given = [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-b", b"3")]
    assert passing(given, (), request=False, besides={b"x-a"}) == given[1:]


@pytest.mark.parametrize(
    ("values", "takes"),
    [
        ([], False),
        ([b"trailers"], True),
        ([b"Trailers"], True),
        ([b"gzip;q=0.5, trailers"], True),
        ([b"gzip", b"trailers"], True),
        ([b"trailers;q=0"], False),
        ([b"trailer"], False),
        ([b"gzip"], False),
        ([b""], False),
    ],
)
def test_who_takes_trailers_says_so(values: list[bytes], takes: bool) -> None:
    head = [(b"x-te", b"trailers"), *((b"te", value) for value in values)]
    assert takes_trailers(head) is takes


names = st.text("abcdefghijklmnop-", min_size=1, max_size=9).map(str.encode)
values = st.text("abc \t:;,=0123", max_size=9).map(str.strip).map(str.encode)


@given(st.lists(st.tuples(names, values), max_size=9))
def test_what_is_written_reads_back(trailers: list[tuple[bytes, bytes]]) -> None:
    chunks = ChunkReader(16_384, 100)
    assert chunks.feed(b"3\r\nabc\r\n" + write_trailers(trailers) + b"rest") == b"abc"
    assert (chunks.done, chunks.trailers, chunks.rest) == (True, trailers, b"rest")


def test_a_request_with_trailers_is_the_bytes_that_it_was() -> None:
    trailed = Trailed.of(b"POST / HTTP/1.1\r\n\r\n", [(b"x-sum", b"1")])
    assert trailed == b"POST / HTTP/1.1\r\n\r\n"
    assert trailed.trailers == [(b"x-sum", b"1")]
    assert Trailed(b"").trailers == ()
