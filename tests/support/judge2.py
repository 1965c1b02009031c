"""HTTP/2 by hyper-h2 alone: the judge of the fast lane, and all that either has noted.

`Judge` is `Http2` as it is without a lane; `state` of the two must be one.
"""

from __future__ import annotations

import pytest

from sidecar.http.h2 import Event, Http2
from sidecar.http.h2_decoder import BlockDecoder, PlainDecoder
from sidecar.http.h2_frames import Turn
from sidecar.http.h2_lane import Unmeasured


class Judge(Http2):
    """Every turn goes to hyper-h2 as it came."""

    def _hear(self, turn: Turn, events: list[Event]) -> float:
        return turn.frames + (self._judge(turn.data, events) if turn.data else 0)


class Unbounded:
    """A budget that nobody spends."""

    def spend(self, cost: float, now: float) -> bool:
        return True

    def earn(self, gain: float) -> None:
        pass


def state(http2: Http2) -> dict[str, object]:
    """Return all that *http2* has noted of its connection, and little of one that is broken."""
    lane = http2._h2
    if http2.broken:
        return {"state": lane.state_machine.state, "last": http2.last}
    noted = {name: value for name, value in vars(lane).items() if name in _NOTED}
    table = lane.decoder.header_table
    return noted | {
        "state": lane.state_machine.state,
        "streams": {number: _stream(one) for number, one in lane.streams.items()},
        "closed": list(lane._closed_streams.items()),
        "window": vars(lane._inbound_flow_control_window_manager),
        "ours": _settings(lane.local_settings),
        "theirs": _settings(lane.remote_settings),
        "begun": vars(lane)["encoder"].begun,
        "table": [tuple(one) for one in table.dynamic_entries],
        "sizes": (table._current_size, table._maxsize),
        "limits": (lane.decoder.max_header_list_size, lane.decoder.max_allowed_table_size),
        "buffer": (bytes(lane.incoming_buffer._data), len(lane.incoming_buffer._headers_buffer)),
        "writing": (list(http2._outgoing._writing), sorted(http2._outgoing._stalled)),
        "budget": (getattr(http2._budget, "_left", 0), http2._debt),
        "waits": (http2.waiting, http2.slow, http2.in_block, http2.last, http2.room),
    }


_NOTED = {
    "highest_inbound_stream_id",
    "highest_outbound_stream_id",
    "outbound_flow_control_window",
    "max_outbound_frame_size",
    "max_inbound_frame_size",
    "_data_to_send",
}


def _stream(stream: object) -> dict[str, object]:
    noted = dict(vars(stream))
    del noted["config"]
    noted["state_machine"] = vars(noted["state_machine"])
    noted["_inbound_window_manager"] = vars(noted["_inbound_window_manager"])
    return noted


def _settings(settings: object) -> dict[int, list[int]]:
    return {int(key): list(values) for key, values in vars(settings)["_settings"].items()}


def by_hyper_h2(*, server: bool, streams: int) -> Judge:
    """Return a connection that no lane serves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sidecar.http.h2._BY", Unmeasured)
        judge = Judge(0.0, server=server, streams=streams)
    assert {type(judge._h2), type(judge._h2.decoder)} == {Unmeasured, PlainDecoder}
    return judge


def by_lane(*, server: bool, streams: int) -> Http2:
    """Return a connection as it is."""
    http2 = Http2(0.0, server=server, streams=streams)
    assert type(http2._h2.decoder) is BlockDecoder
    return http2
