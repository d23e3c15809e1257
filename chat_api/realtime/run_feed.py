"""Passes the growing text of a reply on to a room: once for each process, however many sockets listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol
from uuid import UUID

import orjson

from chat_api.kit.db import is_store_down
from chat_api.runs.events import FIRST_STREAMED_ID, WAITING, RunEvent, delta_data
from shared.logging import get_logger

log = get_logger("realtime.feed")

_PASSED_ON = frozenset({"message.delta", "message.citations"})
"""What is not durable. Everything else of a run is an event of its session, and comes from PostgreSQL."""
_OPENING_EVENTS = 1
"""Of the stream, after the first: the empty reply, which the session's events tell too."""


class Streams(Protocol):
    def follow(self, run_id: UUID, after: int, *, may_skip: bool = False) -> AsyncGenerator[list[RunEvent], None]: ...


class RunFeed:
    """`pass_on` gets the type and the JSON of every piece. `stop` it when the run's end, or that it waits, was told.

    A run that goes on after it waited is followed from where it was left: `left` is its feed from before. What came
    until then was told whole.
    """

    def __init__(
        self,
        run_id: UUID,
        streams: Streams,
        pass_on: Callable[[str, bytes], None],
        left: RunFeed | None = None,
    ) -> None:
        self.run_id = run_id
        self._streams = streams
        self._pass_on = pass_on
        self._saw_wait: bool = False
        self._position: int = FIRST_STREAMED_ID + _OPENING_EVENTS if left is None else left._position
        self._is_told = left is not None and not left._saw_wait
        """Whether the pieces up to the next wait were told already, as a whole."""
        self._message_id: UUID | None = None
        self._begin = 0
        self._text = ""
        self._citations: bytes | None = None
        self._task = asyncio.create_task(self._run(), name=f"feed-{run_id}")

    def stop(self) -> None:
        self._task.cancel()

    @property
    def so_far(self) -> list[tuple[str, bytes]]:
        """What somebody who comes now has missed, in as few pieces as possible."""
        missed: list[tuple[str, bytes]] = []
        if self._message_id is not None and self._text:
            missed.append(("message.delta", delta_data(self._message_id, self._begin, self._text)))
        if self._citations is not None:
            missed.append(("message.citations", self._citations))
        return missed

    async def _run(self) -> None:
        try:
            ended = False
            while not ended:
                async with aclosing(self._streams.follow(self.run_id, self._position, may_skip=True)) as batches:
                    ended = True
                    async for batch in batches:
                        self._take(batch)
                        # It may be long ago that it waited, and it goes on now.
                        ended = not self._saw_wait
        except Exception as error:
            # The task's boundary: what is missed here is only the growing; the whole reply is an event.
            if is_store_down(error):
                log.warning("feed.broke_off", run_id=str(self.run_id), error=type(error).__name__)
            else:
                log.exception("feed.failed", run_id=str(self.run_id))

    def _take(self, batch: list[RunEvent]) -> None:
        # What was said before a wait that is over came whole with it.
        whole = max((event.id for event in batch if event.type == WAITING), default=0)
        for event in batch:
            self._position = event.id
            self._saw_wait = event.type == WAITING
            if self._saw_wait or event.type == "run.started":
                # The wait itself is skipped where it is no longer kept.
                self._is_told = False
            elif event.type in _PASSED_ON and not self._is_told and event.id > whole:
                self._remember(event)
                self._pass_on(event.type, event.data)

    def _remember(self, event: RunEvent) -> None:
        if event.type == "message.citations":
            self._citations = event.data
            return
        data = orjson.loads(event.data)
        if self._message_id is None:
            self._message_id = UUID(data["message_id"])
            self._begin = data["offset"]
        # The offset counts code points, as Python does.
        self._text = self._text[: data["offset"] - self._begin] + data["text"]
