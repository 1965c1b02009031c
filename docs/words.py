"""What only a person knows of the names that `generate.py` lists in docs/reference."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin import server
from sidecar.ca import authority
from sidecar.config import authorization, bootstrap_fields, files, loaded, parse, rate_limits
from sidecar.mcp import batch, message
from sidecar.policy.scan import scanner
from sidecar.policy.tokens import jwks, rules, token

CLI = """\
Data goes to stdout, talk to stderr. No command asks a question. `NO_COLOR` is honoured.
`sidecar --version` prints the version, `sidecar COMMAND --help` what is below."""

EXIT_CODES = {
    0: "done; from `run`: told to stop, and drained",
    1: "failed; from `demo`: a verdict was not the expected one; from `run`: told twice to stop; "
    "from `authz check`: a line was no request",
    2: "the command line is wrong",
    3: "from `authz check`: something that was asked is not allowed",
    69: "from `why`: no running sidecar can be asked",
    77: "a file may not be read or written, or others may read or change it who must not",
    78: "the configuration is wrong",
    130: "Ctrl-C",
}

LIMITS = """\
Set in the bootstrap as `spec.limits.NAME`. No limit can be zero or without end. Sizes are
bytes or `64KiB`, `4MiB`; times are `500ms`, `30s`, `5m`. Limits of time are met within half
a second. An `Inspection` that refuses requests sets the size of their bodies (`maxBodyBytes`,
the smallest of several), and a `DestinationRule` its server's pool. What comes of a fault at
one of them is told [fault by fault](faults.md)."""

FIXED = """\
These are not configured. A scan is all patterns of one direction that refuse, or all that do
not."""


def fixed_limits() -> Iterator[tuple[str, str, str]]:
    """Yield what is bounded by a constant: what, how much, and what becomes of more."""
    mcp, cap = message, files.DEFAULT_FILE_LIMITS
    yield "A tool's, prompt's or task's name", f"{mcp.MAX_NAME} characters", "refused: `invalid`"
    yield "A resource's URI", f"{mcp.MAX_URI} characters", "refused: `invalid`"
    yield "Resources in one subscription", f"{mcp.MAX_SUBSCRIPTIONS}", "refused: `invalid`"
    yield "Messages in one batch", f"{batch.MAX_BATCH}", "refused: `invalid`"
    yield "Patterns of one scan", f"{scanner.MAX_PATTERNS}", "an error"
    yield "One pattern", f"{scanner.MAX_PATTERN} characters, folded", "an error"
    yield "All patterns of one scan", f"{scanner.MAX_TOTAL} characters, folded", "an error"
    yield "A file of configuration", _mib(parse.DEFAULT_LIMITS.bytes), "an error"
    yield "Files of configuration", f"{cap.files}, of {_mib(cap.bytes)} in all", "an error"
    yield "Documents", f"{loaded.MOST_DOCUMENTS}", "an error"
    yield "Inbounds", f"{bootstrap_fields.MOST_INBOUNDS}", "an error"
    yield "Rules of one policy", f"{authorization.MOST_RULES}", "an error"
    yield "Limits of one RateLimit", f"{rate_limits.MOST_LIMITS}", "an error"
    yield "Values of one field of a rule", f"{authorization.MOST_VALUES}", "an error"
    yield "A token", f"{token.LONGEST_TOKEN} characters", "refused: `unauthenticated`"
    yield "Tokens of one call", f"{rules.MOST_TOKENS}", "refused: `unauthenticated`"
    yield "A key set", f"{jwks.MOST_KEYS} keys, {jwks.LONGEST_JWKS >> 10} KiB", "not taken"
    yield "A certificate's life", f"{authority.MAX_TTL / 86400:g} days", "refused by `issue-cert`"
    yield "Connections to the admin listener", f"{server._MAX_CONNECTIONS}", "closed"


def _mib(size: int) -> str:
    return f"{size >> 20} MiB"


# -- refusals

REFUSALS = (
    """\
A request that may not happen is answered with a JSON-RPC error, whatever it was, so that no
client takes it for a server that speaks another protocol. `id` is the request's, or null
where it has none or cannot be read. `requestId` is also in `x-request-id`, and in the
[access log](access-log.md), which holds what the caller is not told: the rule's place and
the detail. `policy` stands there only if a policy decided.""",
)

REFUSALS_AFTER = """\
The reasons are stable words. In a stream that has begun an event is replaced by such an
error, and the stream goes on."""

REASONS = {
    "unauthenticated": "the caller's certificate has expired since the handshake, or a token that "
    "it brought is not good: `www-authenticate` is set, and the message says why in Envoy's words",
    "denied": "a DENY rule matched, or no ALLOW rule did; or a token is for another audience",
    "injection": "a pattern of an `Inspection` was found, in the request or in the reply",
    "too_large": "the request's body is over `requestBodyBytes`, or over the `maxBodyBytes` of an "
    "`Inspection` that refuses requests",
    "rate_limited": "a limit of a `RateLimit` had no token; `Retry-After`, and `retryAfter` beside "
    "`reason`, say in how many seconds it will; without them it never has so many as a batch needs",
    "overloaded": "too many calls wait for the server, or are under way; `x-envoy-overloaded` "
    "is set",
    "upstream": "the server cannot be reached (503), took no connection in time (504), broke off "
    "or answered no HTTP (502), or its reply cannot be inspected (502): compressed, too large, "
    "not JSON though it says so",
    "timeout": "the server sent no head of a reply within `callTimeout`; of a JSON reply that is "
    "held, not all of it",
    "invalid": "the request is not one that every reader reads alike: framing, header, path, "
    "JSON (-32700), JSON-RPC (-32600), a method's parameters (-32602), a header that "
    "contradicts the body (-32020), a type that cannot be judged (415), a limit of time (408) "
    "or of the head (431)",
    "internal": "a bug met the rescue; it is counted in `sidecar_internal_faults_total` and told "
    "on stderr",
}

OTHER_STATUSES = {
    "invalid": "400, 405, 408, 415, 417, 431, 501, 505",
    "upstream": "502, 503, 504",
}

BROKEN = (
    """\
A reply that has begun cannot be refused any more. If the rest of it may not pass or does not
come, or nothing comes for `streamIdleTimeout`, the connection is broken off, so that what
arrived cannot be taken for the whole; the access line says why in `detail`.""",
    "## Handshakes",
    """\
A connection that does not prove who it is gets no HTTP answer. It is closed, counted in
`sidecar_handshake_failures_total` and logged as `{"event": "handshake_failed"}` with one of
these reasons:""",
)

HANDSHAKES = {
    "no_certificate": "the caller showed none",
    "unknown_ca": "its chain ends at no root that is known here, or a signature does not fit",
    "expired": "its certificate, or one above it, has expired",
    "not_yet_valid": "its certificate is not valid yet: compare the clocks",
    "wrong_purpose": "key usage or extended key usage do not fit a workload; what OpenSSL refuses "
    "as the wrong purpose, such as a CA's certificate with keyCertSign, is among these",
    "ca_leaf": "it is a CA's certificate",
    "no_uri_san": "it has no URI SAN, so no SPIFFE ID",
    "two_uri_sans": "it has more than one",
    "not_a_spiffe_id": "its URI SAN is no SPIFFE ID",
    "no_path": "its SPIFFE ID names a trust domain and no workload",
    "names_not_critical": "its subject is empty and its alternative names are not critical",
    "other_trust_domain": "its SPIFFE ID is of a trust domain without a bundle here, or is signed "
    "by another domain's CA",
    "chain_too_long": "more certificates than a chain may have, or more CAs than one above allows",
    "not_a_ca": "a certificate above it may not sign",
    "ca_path": "a CA above it has a workload's SPIFFE ID",
    "critical_extension": "a certificate has a critical extension that is not understood here, or "
    "name constraints",
    "weak_key": "a key is too short: RSA under 2048 bits, a curve under 256",
    "weak_signature": "a certificate is signed with a hash older than SHA-256",
    "malformed": "a certificate cannot be read",
    "plaintext": "no TLS, where TLS is asked for",
    "old_protocol": "TLS older than 1.3",
    "tls_error": "OpenSSL refused it otherwise; `detail` says how",
    "timeout": "not done within `handshakeTimeout`",
    "closed": "the caller hung up before it was done",
    "revoked": "the CA has taken it, its identity, or the CA that signed it, back",
    "no_identity": "this sidecar has no certificate yet, or its own has expired",
    "too_many_connections": "over `connections`, or over `handshakes` at once",
    "out_of_descriptors": "the process may open no more files; it accepts again shortly",
    "other_uid": "at an outbound socket: a user whom `allowUids` does not name",
}

SERVERS = (
    "## Handshakes with servers",
    """\
A server that does not prove to be the one that is meant gets not a byte of a call: the
connection is closed, counted against the endpoint as one that could not be had, in
`sidecar_upstream_handshake_failures_total` too, and logged as
`{"event": "upstream_handshake_failed"}`. What was not sent is tried at another endpoint, and
else the caller gets 503. The reasons are those above, of the server's certificate, and:""",
)

SERVER_REASONS = {
    "other_identity": "it proved a SPIFFE ID that is none of the service's `subjectAltNames`",
    "wrong_name": "its certificate has none of the names that were asked for",
    "refused_by_server": "it refused us; its own log says why",
}

# -- access log

ACCESS_LOG = (
    """\
One JSON object a line and one line a request, written when the exchange is over; streams
when they end. `log.access` says where to: `stdout`, `stderr`, `none`, or a file, which is
appended to; SIGHUP opens it anew, so it can be renamed away before. A destination that
stalls or fails costs lines, which are counted (`sidecar_access_lines_lost_total`), and never
a call. With `none` the events below still go to stderr. Arguments and results are never
written.""",
)

ACCESS = {
    "ts": "when it was over: RFC 3339 in UTC, with milliseconds",
    "request_id": "made here; the server and the caller see it as `x-request-id`",
    "peer": "address and port of the connection; `local` for one over a Unix socket",
    "caller": "the SPIFFE ID that was proved; empty for none",
    "http_method": "the HTTP method",
    "path": "the path as it was matched and forwarded, without the query",
    "mcp_method": "the JSON-RPC method; empty for an answer, and where the body is no message",
    "tool": "the tool that is called, if one is",
    "verdict": "`allow`, `deny`, or `error` where nothing was decided",
    "reason": "the [reason](refusals.md) of a refusal, else empty",
    "rule": "the rule that decided, as `namespace/name#index`; of a finding, the inspection",
    "at": "that rule's `file:line`",
    "status": "the status the caller got; 0 if it left before there was one",
    "upstream": "the endpoint's address; empty if no connection was had",
    "overhead_ms": "the time spent here, waiting for the server taken out",
    "detail": "only where there is more to say: what the caller is not told, or why a reply broke",
    "batch": "only for a batch that was let through: the method and tool of each of its messages",
    "caller_request_id": "only where the caller sent an `x-request-id` of its own: its start",
    "destination": "only where there is more than one server to go to: the service that the call "
    "went to, or the subset of it, as `service|subset`",
    "retries": "only where the call was tried again: how often",
    "audit": "only where AUDIT rules match: the first 16 of them",
    "shadow": "only with dry-run policies: `allow` or `deny`, were they in force",
    "shadow_rule": "only with dry-run policies: the rule that would decide",
    "why": "only where no rule allowed it: the nearest rule and what it lacked; left out where "
    "too many are denied at once to work it out",
    "finding": "only where a pattern was found that refuses nothing (`FLAG`, `SHADOW`): its id",
}

ACCESS_EVENTS = (
    "## Events",
    "Lines that are no request's have `event` instead, beside `ts`.",
)

EVENTS = (
    (
        "`handshake_failed`",
        "a connection was refused",
        "`reason` ([list](refusals.md#handshakes)), `peer`, `detail`",
    ),
    (
        "`upstream_handshake_failed`",
        "a server was refused, or refused us",
        "`reason` ([list](refusals.md#handshakes-with-servers)), `upstream`, `detail`",
    ),
    (
        "`connection_broken`",
        "a caller broke HTTP/2, or made too much work for nothing, and was told GOAWAY",
        "`peer`, `detail`",
    ),
    ("`reloaded`", "a configuration was taken", ""),
    ("`reload_refused`", "one was not, and the old one stays", "`why`"),
    (
        "`trust_changed`",
        "a deny list or roots were taken",
        "`disowned`: how many open connections are refused from then on",
    ),
    (
        "`endpoint_ejected`",
        "an endpoint was left out for failing",
        "`cluster`, `endpoint`, `kind`: what it did, in Envoy's words",
    ),
    ("`endpoint_returned`", "it takes calls again", "the same"),
    ("`endpoint_overflow`", "it failed, and too many are out already", "the same"),
    ("`endpoint_not_enforced`", "it failed, and the rule says only to watch", "the same"),
)

# -- numbers

METRICS = (
    """\
`/metrics` of the [admin listener](admin.md) speaks Prometheus' text format, `/stats` lists
counters under Envoy's names, one `name: value` a line. Counting costs an addition; what is
read is made when it is asked for.""",
    """\
Labels never come unbounded from a caller: a method that MCP does not have is `_other`; a
tool's name is shown once a call of it was allowed, up to `limits.toolsInMetrics` names, and
is `_other` before and beyond.""",
)

GAUGES = {
    "sidecar_connections": "Callers' connections that are open.",
    "sidecar_config_last_reload_successful": "0 once a reload was refused, until one is taken.",
    "sidecar_cert_expiry_timestamp_seconds": "When the sidecar's own certificate ends.",
    "sidecar_renewals_failed": "Renewals of it that failed since the last that succeeded.",
}

METRICS_AFTER = (
    """\
`sidecar_overhead_seconds` is the time of an exchange less the time waited for the server:
from sending the call to the head of its reply, or to its end where a JSON reply was held.""",
    "## Counters of `/stats`",
    "`N` stands for a status, `REASON` for a [handshake's reason](refusals.md#handshakes).",
)

STATS = {
    "http.inbound.downstream_rq_total": "exchanges that are over",
    "http.inbound.downstream_rq_2xx": "of these, answered 2xx",
    "http.inbound.downstream_rq_3xx": "3xx",
    "http.inbound.downstream_rq_4xx": "4xx",
    "http.inbound.downstream_rq_5xx": "5xx",
    "http.inbound.downstream_rq_N": "answered with the status N; 0: the caller left before",
    "http.inbound.rbac.allowed": "exchanges that were allowed and stayed so",
    "http.inbound.rbac.denied": "refused, for whatever reason",
    "http.inbound.http_local_rate_limit.rate_limited": "of these, by a `RateLimit`",
    "listener.ssl.handshake": "handshakes that succeeded",
    "listener.ssl.connection_error": "connections refused before HTTP",
    "listener.ssl.fail_verify.REASON": "of these, for this reason",
    "upstream.ssl.connection_error": "handshakes with servers that failed",
    "upstream.ssl.fail_verify.REASON": "of these, for this reason",
    "server.internal_faults": "bugs that met the rescue; please report them",
    "access_log.lines_lost": "access lines that could not be written",
    "server.live": "1",
    "server.state": "0: serving, 1: draining",
    "server.total_connections": "callers' connections that are open",
    "server.tasks": "tasks under way: one a caller's connection or stream, and a few of its own",
    "server.config_last_reload_successful": "0 once a reload was refused, until one is taken",
    "server.certificate_expiry_seconds": "when our certificate ends, in seconds since the epoch",
    "server.renewals_failed": "renewals of it that failed since the last that succeeded",
}

CLUSTERS = """\
Each cluster has these, as `cluster.NAME.COUNTER`:"""

_KINDS = {
    "consecutive_5xx": "5xx in a row",
    "consecutive_gateway_failure": "502, 503 or 504 in a row",
    "consecutive_local_origin_failure": "failures to reach it in a row",
    "success_rate": "a success rate below its peers'; not configurable here",
    "local_origin_success_rate": "the same of failures to reach it; not configurable here",
    "failure_percentage": "a share of failures; not configurable here",
    "local_origin_failure_percentage": "the same of failures to reach it; not configurable here",
}

CLUSTER_STATS = {
    "upstream_cx_total": "connections that were begun",
    "upstream_cx_active": "connections that are open or being opened",
    "upstream_cx_connect_fail": "connections that did not come about",
    "upstream_cx_connect_timeout": "of these, not in time",
    "upstream_cx_overflow": "calls that had to wait because all connections were in use",
    "upstream_rq_total": "calls that were lent a connection or a place in the queue",
    "upstream_rq_active": "calls under way",
    "upstream_rq_2xx": "answers 2xx",
    "upstream_rq_3xx": "3xx",
    "upstream_rq_4xx": "4xx",
    "upstream_rq_5xx": "5xx",
    "upstream_rq_other": "other answers",
    "upstream_rq_retry": "further tries of calls",
    "upstream_rq_retry_overflow": "calls not tried again, as too many were (`maxRetries`)",
    "upstream_rq_mirror_overflow": "copies not sent, as too many were under way",
    "upstream_rq_timeout": "calls that the server did not answer in time",
    "upstream_rq_rx_reset": "connections that broke before an answer",
    "upstream_rq_pending_total": "calls that waited in the queue",
    "upstream_rq_pending_active": "calls that wait now",
    "upstream_rq_pending_overflow": "calls refused as `overloaded`",
    "membership_total": "endpoints",
    "membership_healthy": "endpoints that are not ejected",
    "outlier_detection.ejections_active": "endpoints that are ejected now",
    "outlier_detection.ejections_overflow": "findings without effect, as too many were out",
    "outlier_detection.ejections_total": "findings",
    "outlier_detection.ejections_enforced_total": "ejections",
    **{f"outlier_detection.ejections_detected_{k}": f"findings: {v}" for k, v in _KINDS.items()},
    **{f"outlier_detection.ejections_enforced_{k}": f"ejections: {v}" for k, v in _KINDS.items()},
}

# -- admin

ADMIN = (
    """\
A few pages of plain text for whoever runs a sidecar. It answers GET and HEAD, and nothing
that is asked there changes anything.""",
    """\
By default it is a Unix socket that only its owner may open (0600), in `$RUNTIME_DIRECTORY`,
else in `$XDG_RUNTIME_DIR/sidecar`, else in `sidecar-UID` of the temporary folder; its name
is the bootstrap's `metadata.name`. `admin.listen: 127.0.0.1:15000` makes it a TCP listener,
on a loopback address only; every local user may then read it. It answers only requests that
name it in `Host`, so that a web page cannot reach it under another name.""",
    """\
```
curl --unix-socket /tmp/sidecar-0/server.sock http://localhost/stats
curl http://127.0.0.1:15000/stats
```""",
)

PAGES = {
    "/healthz": "200 as long as the process serves",
    "/readyz": "200 `ready`; 503 and why not: draining, no identity, an expired certificate, a "
    "CA's word or another mesh's bundle that is too old, "
    "no listener",
    "/ready": "the same, under Envoy's name",
    "/metrics": "[Prometheus' metrics](metrics-and-stats.md)",
    "/stats": "[counters under Envoy's names](metrics-and-stats.md#counters-of-stats)",
    "/clusters": "one line an endpoint: its cluster, address and state",
    "/why": "`?id=REQUEST_ID`: that request's access line, while it is remembered; else 404 with "
    "how many are (`sidecar why` asks it)",
}
