"""Server-sent events: bytes cut into whole events, and events written anew.

Follows the event stream of the HTML standard (section 9.2): lines end with LF,
CRLF or CR, a blank line ends an event. However the bytes come in, the same
events come out, and joined they are the bytes that came in. Memory is bounded
by one event. What the data mean is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import MessageError

TOO_LARGE: Final = -32006
_BOM: Final = b"\xef\xbb\xbf"
_BLANK: Final = frozenset({b"\n", b"\r\n", b"\r"})


@dataclass(slots=True)
class Event:
    """One event; `raw` is exactly what came, its blank line included.

    `data` is the data lines joined by LF, empty for a comment, a keep-alive or an
    event that only sets an id. `type`, `id` and `retry` are as this event writes
    them: empty or None where it does not.
    """

    raw: bytes
    data: bytes = b""
    type: bytes = b""
    id: bytes | None = None
    retry: bytes | None = None


class EventSplitter:
    """Cuts one stream into events of at most *max_event_bytes* each."""

    __slots__ = ("_begun", "_fault", "_lines", "_max", "_partial", "_size")

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._begun = False
        self._fault: MessageError | None = None
        self._lines: list[bytes] = []  # the whole lines of the event that is not over
        self._size = 0  # their length together
        self._partial = bytearray()  # the line that is not over

    def feed(self, chunk: bytes) -> list[Event]:
        """Take *chunk* and return the events it completes, as soon as they are complete.

        Raises `MessageError` (-32006) once the next event is over the limit; events
        before it are handed out first. After that the stream is of no more use.
        """
        if self._fault is not None:
            raise self._fault
        if b"\n" not in chunk and b"\r" not in chunk and not self._partial.endswith(b"\r"):
            self._partial += chunk
            return self._within_limit([])
        lines = (bytes(self._partial) + chunk if self._partial else chunk).splitlines(True)
        last = lines.pop()
        events: list[Event] = []
        for line in lines:
            self._take(line, events)
        if last.endswith(b"\n") or (last == b"\r" and self._after_bare_cr()):
            self._take(last, events)
            last = b""
        # A line that ends with CR may yet turn out to end with CRLF: it waits.
        self._partial = bytearray(last)
        return self._within_limit(events)

    def finish(self) -> list[Event]:
        """Return what the end of the stream completes: an event whose last byte is CR.

        Raises `MessageError` like `feed`.
        """
        if self._fault is not None:
            raise self._fault
        events: list[Event] = []
        if self._partial == b"\r":
            self._partial.clear()
            self._take(b"\r", events)
        return self._within_limit(events)

    def rest(self) -> bytes:
        """Return the unfinished event, which at the end of the stream is to be dropped."""
        return b"".join(self._lines) + bytes(self._partial)

    def _take(self, line: bytes, events: list[Event]) -> None:
        """Take one whole line; a blank one ends the event."""
        if self._fault is not None:
            return
        if line == b"\r\n" and self._after_bare_cr():
            # The CR alone ended the event, whether or not the LF had come yet.
            self._take(b"\r", events)
            self._take(b"\n", events)
            return
        self._lines.append(line)
        self._size += len(line)
        if line not in _BLANK:
            return
        if self._size > self._max:
            self._fail()
            return
        events.append(self._event())

    def _after_bare_cr(self) -> bool:
        return bool(self._lines) and self._lines[-1].endswith(b"\r")

    def _event(self) -> Event:
        lines, self._lines, self._size = self._lines, [], 0
        event = Event(b"".join(lines))
        if not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(_BOM)
        _read_fields(lines, event)
        return event

    def _within_limit(self, events: list[Event]) -> list[Event]:
        if self._size + len(self._partial) > self._max:
            self._fail()
        if self._fault is not None and not events:
            raise self._fault
        return events

    def _fail(self) -> None:
        self._fault = MessageError(f"an event is larger than {self._max} bytes", TOO_LARGE)
        self._lines, self._size = [], 0
        self._partial.clear()


def write_event(data: bytes, like: Event | None = None) -> bytes:
    """Return an event with these *data*, which may have several lines.

    Where it takes the place of another, *like*, it keeps that one's type, id and
    retry, so that a client keeps its place in the stream. Comments and unknown
    fields are left out, since nobody judged them.
    """
    lines: list[bytes] = []
    if like is not None:
        if like.type:
            lines.append(b"event: " + like.type)
        if like.id is not None:
            lines.append(b"id: " + like.id)
        if like.retry is not None:
            lines.append(b"retry: " + like.retry)
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines += [b"data: " + line for line in data.split(b"\n")]
    return b"\n".join(lines) + b"\n\n"


def _read_fields(lines: list[bytes], event: Event) -> None:
    data: list[bytes] = []
    for line in lines:
        name, _, value = line.rstrip(b"\r\n").partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event.type = value
        elif name == b"id" and b"\0" not in value:
            event.id = value
        elif name == b"retry" and value.isdigit():
            event.retry = value
    event.data = data[0] if len(data) == 1 else b"\n".join(data)
