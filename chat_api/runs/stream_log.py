"""Where the events of running runs are kept for readers on other replicas: a Redis stream per run.

Entry ids are the events' own numbers, which Redis accepts only in rising order. Who takes a run over seals
its stream, so that whoever was thought dead and still writes is refused. Who answers it again opens the stream
by the same command that adds its first event: there is no moment in which both could write.
Nothing here is the truth: the reply is in PostgreSQL when the run ends, and a lost stream costs a reader
the deltas, not the text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chat_api.runs.events import RunEvent
from shared.logging import get_logger

log = get_logger("runs.stream")

_RUNNING_TTL_SECONDS = 3600
_DOWN_SECONDS = 1.0
_SEALED = 2**62
_REOPEN = """
redis.pcall('XSETID', KEYS[1], '0-' .. ARGV[1])
return redis.call('XADD', KEYS[1], '0-' .. ARGV[2], 't', ARGV[3], 'd', ARGV[4])
"""
_NUMBER_TAKEN = "equal or smaller than the target stream top item"  # of Redis's error for XADD


class Entry(NamedTuple):
    """An event to keep. One that `reopens` has a sealed stream take events again, from its own number on."""

    run_id: UUID
    event: RunEvent
    reopens: bool = False


class Kept(Enum):
    """What became of an event that was to be kept."""

    YES = auto()
    AWAY = auto()
    """The log does not answer, or takes nothing now."""
    NUMBER_TAKEN = auto()
    """Another process writes this run's stream: ours is over."""


class StreamLog(Protocol):
    """Every method may fail softly: `Kept.AWAY`, or None for "cannot be read now"."""

    async def append(self, entries: Sequence[Entry]) -> list[Kept]:
        """Keep events in order; tells for each what became of it."""
        ...

    async def read(self, run_id: UUID, after: int, *, wait_seconds: float) -> list[RunEvent] | None:
        """Events with a number above `after`, waiting for the first; empty when none came."""
        ...

    async def recall(self, run_id: UUID, after: int) -> list[RunEvent] | None:
        """All events with a number above `after`, at once, for who writes them."""
        ...

    async def keep_for(self, run_id: UUID, seconds: int) -> None:
        """Forget the stream of an ended run after so long."""
        ...

    async def seal(self, run_id: UUID) -> None:
        """Take no more events: whoever wrote them was thought dead, and what is read now must stay all there is."""
        ...

    async def conclude(self, run_id: UUID, last_id: int, closing: Sequence[RunEvent], *, seconds: int) -> None:
        """Reopen, add the last events and forget the stream after `seconds`, in one step."""
        ...


class NoStreamLog:
    """For a single process without Redis: readers elsewhere get snapshots."""

    async def append(self, entries: Sequence[Entry]) -> list[Kept]:
        return [Kept.AWAY] * len(entries)

    async def read(self, run_id: UUID, after: int, *, wait_seconds: float) -> list[RunEvent] | None:
        return None

    async def recall(self, run_id: UUID, after: int) -> list[RunEvent] | None:
        return None

    async def keep_for(self, run_id: UUID, seconds: int) -> None:
        return None

    async def seal(self, run_id: UUID) -> None:
        return None

    async def conclude(self, run_id: UUID, last_id: int, closing: Sequence[RunEvent], *, seconds: int) -> None:
        return None


class RedisStreamLog:
    """`writer` has short time-outs, because live readers wait for it; `reader` blocks.

    A sealed stream's next number is set beyond any event's, so Redis itself refuses whoever still writes.
    """

    def __init__(self, writer: Redis, reader: Redis) -> None:
        self._writer = writer
        self._reader = reader
        self._down_until = 0.0
        self._unreadable_until = 0.0

    async def append(self, entries: Sequence[Entry]) -> list[Kept]:
        if time.monotonic() < self._down_until:
            return [Kept.AWAY] * len(entries)
        pipeline = self._writer.pipeline(transaction=False)
        positions: list[int] = []
        for run_id, event, reopens in entries:
            key = _key(run_id)
            positions.append(len(pipeline))
            if reopens:
                pipeline.execute_command("EVAL", _REOPEN, 1, key, event.id - 1, event.id, event.type, event.data)
            else:
                pipeline.execute_command("XADD", key, f"0-{event.id}", b"t", event.type, b"d", event.data)
            if event.type != "message.delta":
                pipeline.expire(key, _RUNNING_TTL_SECONDS)
        try:
            results = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._is_down(error)
            return [Kept.AWAY] * len(entries)
        # Of XADD alone: an EXPIRE that is refused is no second event.
        return [_kept(results[position]) for position in positions]

    async def read(self, run_id: UUID, after: int, *, wait_seconds: float) -> list[RunEvent] | None:
        if time.monotonic() < self._unreadable_until:
            return None
        try:
            found = await self._reader.xread(
                {_key(run_id): f"0-{after}"}, count=1000, block=max(1, int(wait_seconds * 1000))
            )
        except (RedisError, OSError, TimeoutError):
            self._unreadable_until = time.monotonic() + _DOWN_SECONDS
            return None
        return [_event(entry) for _, entries in found or [] for entry in entries]

    async def recall(self, run_id: UUID, after: int) -> list[RunEvent] | None:
        if time.monotonic() < self._down_until:
            return None
        try:
            found = await self._writer.xrange(_key(run_id), min=f"(0-{after}")
        except (RedisError, OSError, TimeoutError) as error:
            self._is_down(error)
            return None
        return [_event(entry) for entry in found]

    async def keep_for(self, run_id: UUID, seconds: int) -> None:
        await self._softly([("EXPIRE", _key(run_id), seconds)])

    async def seal(self, run_id: UUID) -> None:
        key = _key(run_id)
        # Number 1 is never streamed; the entry is there so that a stream without events can be sealed too.
        placeholder = ("XADD", key, "0-1", b"t", b"sealed", b"d", b"")
        await self._softly([placeholder, ("XSETID", key, f"0-{_SEALED}"), ("EXPIRE", key, _RUNNING_TTL_SECONDS)])

    async def conclude(self, run_id: UUID, last_id: int, closing: Sequence[RunEvent], *, seconds: int) -> None:
        key = _key(run_id)
        added = [("XADD", key, f"0-{event.id}", b"t", event.type, b"d", event.data) for event in closing]
        await self._softly([("XSETID", key, f"0-{last_id}"), *added, ("EXPIRE", key, seconds)])

    async def _softly(self, commands: Sequence[tuple[object, ...]]) -> None:
        """Do the commands with nobody else's between them. One that is refused does not stop the others."""
        if time.monotonic() < self._down_until:
            return
        pipeline = self._writer.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._is_down(error)

    def _is_down(self, error: Exception) -> None:
        self._down_until = time.monotonic() + _DOWN_SECONDS
        log.warning("stream.unavailable", error=type(error).__name__)


def _kept(result: object) -> Kept:
    if not isinstance(result, Exception):
        return Kept.YES
    return Kept.NUMBER_TAKEN if _NUMBER_TAKEN in str(result) else Kept.AWAY


def _key(run_id: UUID) -> str:
    return f"colloquy:run:{run_id.hex}"


def _event(entry: tuple[bytes, dict[bytes, bytes]]) -> RunEvent:
    entry_id, values = entry
    return RunEvent(int(entry_id.split(b"-")[1]), values[b"t"].decode(), values[b"d"])
