"""Reads a session's events as the frames that every follower gets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from chat_api.kit.db import Database
from chat_api.realtime import statements as sql
from chat_api.runs.event_statements import EVENTS_AFTER
from shared.web.websockets import text_frame

Outgoing = dict[str, Any]
"""A `websocket.send` message of ASGI. `frame` is the same text as it goes over the wire, for servers that take it."""


class Batch:
    """Messages that go out together. `frames` are theirs in one piece, joined once for any number of sockets."""

    __slots__ = ("frames", "messages")

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.frames: bytes = (
            messages[0]["frame"] if len(messages) == 1 else b"".join(message["frame"] for message in messages)
        )


def batch_of(*frames: bytes) -> Batch:
    return Batch([outgoing(frame) for frame in frames])


def outgoing(frame: bytes) -> Outgoing:
    """One message for any number of sockets: encoded here, and not once for each of them."""
    return {"type": "websocket.send", "text": frame.decode(), "frame": text_frame(frame)}


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One durable event. `user_id` is whom it is about, where it is about somebody."""

    event_seq: int
    type: str
    run_id: UUID | None
    user_id: UUID | None
    message: Outgoing


class EventReader(Protocol):
    """Where rooms read. All raise what a store that is away raises."""

    async def after(self, session_id: UUID, event_seq: int, limit: int) -> list[SessionEvent]:
        """The first events after a number, in order, without gaps; empty where there are none, or no session."""
        ...

    async def positions(self, session_ids: Collection[UUID]) -> dict[UUID, int]:
        """The number of the last event of each session that exists."""
        ...

    async def active_run(self, session_id: UUID) -> UUID | None: ...


class DatabaseEvents:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def after(self, session_id: UUID, event_seq: int, limit: int) -> list[SessionEvent]:
        rows = await self._database.fetch_events(EVENTS_AFTER, session_id, event_seq, limit)
        return [
            SessionEvent(row["event_seq"], row["type"], row["run_id"], row["user_id"], outgoing(row["frame"]))
            for row in rows
        ]

    async def positions(self, session_ids: Collection[UUID]) -> dict[UUID, int]:
        rows = await self._database.fetch_events(sql.POSITIONS, list(session_ids))
        return {row["id"]: row["last_event_seq"] for row in rows}

    async def active_run(self, session_id: UUID) -> UUID | None:
        row = await self._database.fetch_row(sql.ACTIVE_RUN, session_id)
        return None if row is None else row["id"]
