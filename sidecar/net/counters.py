"""What a cluster counts, under Envoy's names."""

from __future__ import annotations

from typing import Final

from ..upstream.outlier import Outcome

FAMILY: Final = {
    2: "upstream_rq_2xx",
    3: "upstream_rq_3xx",
    4: "upstream_rq_4xx",
    5: "upstream_rq_5xx",
}
LOCAL: Final = {
    Outcome.CONNECT_FAILED: "upstream_cx_connect_fail",
    Outcome.TIMEOUT: "upstream_rq_timeout",
    Outcome.RESET: "upstream_rq_rx_reset",
}
COUNTERS: Final = (
    "upstream_cx_connect_timeout",
    "upstream_cx_total",
    "upstream_cx_overflow",
    "upstream_rq_total",
    "upstream_rq_other",
    "upstream_rq_retry",
    "upstream_rq_retry_overflow",
    "upstream_rq_mirror_overflow",
    "upstream_rq_pending_total",
    "upstream_rq_pending_overflow",
    *FAMILY.values(),
    *LOCAL.values(),
)
