"""A client's end of an event stream: it reads bytes that may stop anywhere, and knows where to go on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

TERMINAL_TYPES = frozenset({"run.completed", "run.failed", "run.cancelled", "run.awaiting_approval"})


@dataclass(frozen=True)
class Event:
    id: int
    type: str
    data: dict[str, Any]


class Reader:
    """Takes the bytes of one run's stream over any number of connections."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._half_frame = b""

    @property
    def last_id(self) -> int:
        return self.events[-1].id if self.events else 0

    @property
    def run_id(self) -> str | None:
        """The run, once the first event has named it."""
        run_id = self.events[0].data.get("run_id") if self.events else None
        return None if run_id is None else str(run_id)

    @property
    def ended(self) -> bool:
        return any(event.type in TERMINAL_TYPES for event in self.events)

    def connected_anew(self) -> None:
        """What came of the frame that was cut is thrown away, as browsers do."""
        self._half_frame = b""

    def feed(self, data: bytes) -> None:
        *frames, self._half_frame = (self._half_frame + data).split(b"\n\n")
        for frame in frames:
            fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if line and not line.startswith(b":"))
            if fields:
                # Bytes that are no UTF-8 would raise here.
                data_field = json.loads(fields[b"data"].decode())
                self.events.append(Event(int(fields[b"id"]), fields[b"event"].decode(), data_field))

    # -- what was read ------------------------------------------------------------------------------------

    @property
    def joined(self) -> str:
        """What the deltas add up to. Each has to begin where those before it ended."""
        text = ""
        for event in self.of_type("message.delta"):
            assert event.data["offset"] == len(text), "a delta is missing, doubled or of another reply"
            text += event.data["text"]
        return text

    @property
    def final_text(self) -> str | None:
        """The whole reply as the last `message.updated` has it."""
        updates = self.of_type("message.updated")
        return str(updates[-1].data["content"]) if updates else None

    @property
    def terminals(self) -> list[str]:
        return [event.type for event in self.events if event.type in TERMINAL_TYPES]

    def of_type(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.type == kind]

    def assert_gapless(self) -> None:
        """Ids are 1, 2, 3 …, and exactly one terminal event is the last."""
        assert [event.id for event in self.events] == list(range(1, len(self.events) + 1))
        self.assert_ended_once()

    def assert_ended_once(self) -> None:
        assert len(self.terminals) == 1, self.terminals
        assert self.events[-1].type in TERMINAL_TYPES
        ids = [event.id for event in self.events]
        assert ids == sorted(set(ids)), "an event came twice"
