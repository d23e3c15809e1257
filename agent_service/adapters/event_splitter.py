"""Server-sent events from bytes, as cheaply as Python allows (https://html.spec.whatwg.org/#event-stream-interpretation)."""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024


class EventTooLarge(Exception):
    """An event without an end: whatever sends it does not speak this protocol."""


class EventSplitter:
    """Cuts a byte stream into the `data` of its events. However the stream is cut, the events are the same.

    Names, ids and retry hints are dropped: model servers put all they say into `data`.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._held_bytes = 0
        self._max_event_bytes = max_event_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        if (
            not self._rest
            and not self._data
            and chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and chunk.count(b"\n") == 2
            and b"\r" not in chunk
        ):
            return [chunk[6:-2]]  # one whole event in one read: what nearly every token looks like
        return self._feed_any(self._rest + chunk if self._rest else chunk)

    def finish(self) -> list[bytes]:
        """What stands at the end of the stream without the empty line that should close it."""
        events = self._feed_any(self._rest + b"\n\n")
        self._rest = b""
        return events

    def _feed_any(self, stream: bytes) -> list[bytes]:
        if b"\r" in stream:
            # A carriage return at the very end may be half of a line end: it waits for the next read.
            tail = b"\r" if stream.endswith(b"\r") else b""
            stream = stream[: len(stream) - len(tail)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            tail = b""
        lines = stream.split(b"\n")
        self._rest = lines.pop() + tail
        events: list[bytes] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data.clear()
                    self._held_bytes = 0
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._held_bytes += len(line)
        if self._held_bytes + len(self._rest) > self._max_event_bytes:
            raise EventTooLarge
        return events
