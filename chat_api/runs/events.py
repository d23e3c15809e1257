"""The events of one run, numbered from 1 without gaps, as SSE sends them.

1 restates the message that is answered; 2 is `run.started` and 3 the empty reply; then come the deltas, the
passages that the reply cites, and at last the whole reply and the terminal event. A run that waits for a decision
ends its stream like that too. After the decision it goes on with the next number, with `run.started`. Number 1 is
never kept anywhere: it is built from the row, so a client that sent the message has its acknowledgement even while
the run waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from chat_api.runs.models import RunStatus

FIRST_STREAMED_ID = 2
CLOSING_EVENTS = 2
"""The whole reply, and the terminal event."""
WAITING = "run.awaiting_approval"
TERMINAL_TYPES = frozenset({"run.completed", "run.failed", "run.cancelled", WAITING})
KEEPALIVE = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """`data` is JSON. `id` rises by one within the run."""

    id: int
    type: str
    data: bytes

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL_TYPES

    def frame(self) -> bytes:
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self.id, self.type.encode(), self.data)


def delta_data(message_id: UUID, offset: int, text: str) -> bytes:
    return b'{"message_id":"%b","offset":%d,"text":%b}' % (str(message_id).encode(), offset, orjson.dumps(text))


def delta_at(data: bytes) -> tuple[int, str]:
    """Where a piece of a reply begins, and the piece."""
    parsed: dict[str, Any] = orjson.loads(data)
    return parsed["offset"], parsed["text"]


def citations_data(message_id: UUID, citations: list[dict[str, Any]]) -> bytes:
    return orjson.dumps({"message_id": str(message_id), "citations": citations})


def cited(data: bytes) -> list[dict[str, Any]]:
    parsed: dict[str, Any] = orjson.loads(data)
    citations: list[dict[str, Any]] = parsed["citations"]
    return citations


def terminal_type(status: RunStatus) -> str:
    return f"run.{status.value}"
