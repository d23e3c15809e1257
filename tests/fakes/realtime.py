"""A session's events in memory, and somebody who follows them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Collection
from uuid import UUID, uuid4

import orjson

from chat_api.kit.models import new_id
from chat_api.realtime.events import Batch, SessionEvent, outgoing
from chat_api.runs.events import RunEvent, delta_data


class EventsInMemory:
    """Numbers events as PostgreSQL does. With `shuffle`, every read waits for a random number of turns of the loop."""

    def __init__(self, shuffle: random.Random | None = None) -> None:
        self.session_id = uuid4()
        self.events: list[SessionEvent] = []
        self.failures: list[Exception] = []
        self.reads = 0
        self.running: UUID | None = None
        self.is_gone = False
        self._shuffle = shuffle

    def add(
        self, kind: str = "message.created", *, user_id: UUID | None = None, run_id: UUID | None = None
    ) -> SessionEvent:
        number = len(self.events) + 1
        frame = {"type": kind, "session_id": str(self.session_id), "event_seq": number, "data": {}}
        event = SessionEvent(number, kind, run_id, user_id, outgoing(orjson.dumps(frame)))
        self.events.append(event)
        return event

    async def after(self, session_id: UUID, event_seq: int, limit: int) -> list[SessionEvent]:
        self.reads += 1
        await self._wait()
        if self.failures:
            raise self.failures.pop(0)
        found = [] if self.is_gone else self.events[event_seq : event_seq + limit]
        # What was read is old by the time that it arrives.
        await self._wait()
        return found

    async def positions(self, session_ids: Collection[UUID]) -> dict[UUID, int]:
        await self._wait()
        return {} if self.is_gone else {session_id: len(self.events) for session_id in session_ids}

    async def active_run(self, session_id: UUID) -> UUID | None:
        await self._wait()
        return self.running

    async def _wait(self) -> None:
        for _ in range(self._shuffle.randrange(4) if self._shuffle is not None else 0):
            await asyncio.sleep(0)


class StreamsInMemory:
    """One run whose reply grows when the test says so."""

    def __init__(self) -> None:
        self.message_id = new_id()
        self.followed: list[tuple[UUID, int]] = []
        self._events: list[RunEvent] = []
        self._added = asyncio.Condition()
        self._next_id = 4
        self._length = 0

    async def say(self, text: str) -> None:
        await self._add("message.delta", delta_data(self.message_id, self._length, text))
        self._length += len(text)

    async def end(self) -> None:
        await self._add("message.updated", b"{}")
        await self._add("run.completed", b"{}")

    async def _add(self, kind: str, data: bytes) -> None:
        async with self._added:
            self._events.append(RunEvent(self._next_id, kind, data))
            self._next_id += 1
            self._added.notify_all()

    async def follow(self, run_id: UUID, after: int, *, may_skip: bool = False) -> AsyncGenerator[list[RunEvent], None]:
        self.followed.append((run_id, after))
        given = 0
        while True:
            async with self._added:
                await self._added.wait_for(lambda: len(self._events) > given)  # noqa: B023 - waited for at once
                batch = self._events[given:]
            given += len(batch)
            yield batch
            if batch[-1].is_terminal:
                return


class FollowerInMemory:
    """Keeps what it is given. `congested`, it takes nothing of a replay until the test lets it."""

    def __init__(self, user_id: UUID | None = None) -> None:
        self.user_id = user_id or uuid4()
        self.connection_id = uuid4().hex
        self.frames: list[dict[str, object]] = []
        self.put_out_of: list[UUID] = []
        self.easy = asyncio.Event()
        self.easy.set()

    def put(self, batch: Batch) -> None:
        self.frames += [orjson.loads(message["text"]) for message in batch.messages]

    async def drained(self) -> None:
        await self.easy.wait()

    def put_out(self, session_id: UUID) -> None:
        self.put_out_of.append(session_id)

    @property
    def numbers(self) -> list[object]:
        return [frame["event_seq"] for frame in self.frames if "event_seq" in frame]

    def of(self, kind: str) -> list[object]:
        return [frame["data"] for frame in self.frames if frame["type"] == kind]
