"""hyper-h2's connection by its public face alone, under the names that the fast lane has.

The lane (`h2_lane`) reads and leaves what hyper-h2 and hpack keep inside. It is for the
versions whose insides it was held against; with others every frame goes this way,
which is slower, and right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import h2
import hpack
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.stream import H2Stream
from hpack import Encoder

from .field import Pair
from .h2_decoder import PlainDecoder
from .h2_encoder import Asked, BlockEncoder

H2: Final = "4.4."  # the versions whose insides the lane knows begin so
HPACK: Final = "4.2."

_CONNECTION: Final = (
    *(
        "_begin_new_stream",
        "_receive_headers_frame",
        "_closed_streams",
        "_data_to_send",
        "_inbound_flow_control_window_manager",
    ),
    *("decoder", "encoder", "highest_inbound_stream_id", "highest_outbound_stream_id"),
    *("incoming_buffer", "local_settings", "max_outbound_frame_size"),
    *("outbound_flow_control_window", "remote_settings", "state_machine", "streams"),
)
_STREAM: Final = (
    *("_authority", "_initialize_content_length", "_track_content_length"),
    *("_inbound_window_manager", "closed_by", "config", "max_outbound_frame_size"),
    *("outbound_flow_control_window", "request_method", "state_machine"),
)
_MACHINE: Final = ("client", "headers_received", "headers_sent", "state", "stream_closed_by")
_WINDOW: Final = ("_bytes_processed", "current_window_size", "max_window_size")
_DECODER: Final = (
    *("_assert_valid_table_size", "header_table", "max_allowed_table_size"),
    "max_header_list_size",
)
_TABLE: Final = ("add", "dynamic_entries", "maxsize")


def strange() -> str:
    """Return why the lane does not know what is installed; empty if it does."""
    if not h2.__version__.startswith(H2):
        return f"h2 {h2.__version__}, where {H2}* is known"
    if not hpack.__version__.startswith(HPACK):
        return f"hpack {hpack.__version__}, where {HPACK}* is known"
    config = H2Configuration()
    connection, stream = H2Connection(config), H2Stream(1, config, 0, 0)
    insides = (
        (connection, _CONNECTION),
        (getattr(connection, "incoming_buffer", None), ("_headers_buffer",)),
        (stream, _STREAM),
        (getattr(stream, "state_machine", None), _MACHINE),
        (getattr(stream, "_inbound_window_manager", None), _WINDOW),
        (getattr(connection, "decoder", None), _DECODER),
        (getattr(getattr(connection, "decoder", None), "header_table", None), _TABLE),
    )
    lacking = [name for one, names in insides for name in _lacking(one, names)]
    return f"no {', '.join(lacking)} in h2 {h2.__version__}" if lacking else ""


def _lacking(one: object, names: Sequence[str]) -> list[str]:
    return [f"{type(one).__name__}.{name}" for name in names if not hasattr(one, name)]


class Plain(H2Connection):
    """An H2Connection that declines whatever the lane would take; what it raises is hyper-h2's."""

    MAX_CLOSED_STREAMS = 1_024  # of which it is known how they ended

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self.encoder = cast(Encoder, BlockEncoder())
        self.decoder = PlainDecoder(self.DEFAULT_MAX_HEADER_LIST_SIZE)

    def judge(self, data: bytes) -> list[Event]:
        """Have hyper-h2 judge *data*."""
        return self.receive_data(data)

    @property
    def ordinary(self) -> bool:
        """Whether a frame may be told by `head_came` and its like."""
        return False

    def head_came(self, number: int, flags: int, block: bytes) -> Sequence[Pair] | None:
        """Take a HEADERS frame; None if hyper-h2 must."""
        return None

    def data_came(self, number: int, ended: int, size: int) -> bool:
        """Take a DATA frame; False if hyper-h2 must."""
        return False

    def window_came(self, number: int, payload: bytes) -> bool:
        """Take a WINDOW_UPDATE frame; False if hyper-h2 must."""
        return False

    def taken(self, number: int, size: int) -> None:
        """Let *size* bytes more come."""
        self.acknowledge_received_data(size, number)

    def head(self, number: int, fields: Sequence[Pair], *, end: bool) -> None:
        """Send any head."""
        self.send_headers(number, fields, end_stream=end)

    def ask(self, number: int, asked: Asked, *, end: bool) -> bool:
        """Open a stream with the head of a request; False if `head` must."""
        return False

    def answer(self, number: int, block: bytes, *, end: bool) -> bool:
        """Send *block* as the head of a final reply; False if `head` must."""
        return False

    def room(self, number: int) -> int:
        """Return how much of a body may be sent now."""
        return self.local_flow_control_window(number)

    def piece(self, number: int, data: bytes, *, end: bool) -> None:
        """Send a piece of a body."""
        self.send_data(number, data, end_stream=end)

    def trail(self, number: int, data: bytes, trailers: Sequence[Pair]) -> None:
        """Send what is left of a body, and the *trailers* that end it."""
        if data:
            self.piece(number, data, end=False)
        self.head(number, trailers, end=True)

    def reset(self, number: int, code: int) -> None:
        """Break a stream off."""
        self.reset_stream(number, code)
