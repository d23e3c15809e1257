"""Requests and answers of turns, as tests write and read them."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic import TypeAdapter

from shared.contracts.chat import ChatEvent, DeltaEvent

_EVENTS: TypeAdapter[ChatEvent] = TypeAdapter(ChatEvent)


def turn(content: str, **model: object) -> dict[str, Any]:
    return {"run_id": str(uuid.uuid4()), "model": model, "messages": [{"role": "user", "content": content}]}


def events_in(stream: str) -> list[ChatEvent]:
    """The events of a stream in our exact wire form: a name, one line of data, an empty line."""
    events: list[ChatEvent] = []
    for block in stream.removesuffix("\n\n").split("\n\n"):
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        event = _EVENTS.validate_json(data.removeprefix("data: "))
        assert name == f"event: {event.type}"
        events.append(event)
    return events


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, DeltaEvent))
