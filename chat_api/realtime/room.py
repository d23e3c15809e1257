"""One session as this process follows it: where its events are read once, and handed to every socket.

A room has a position: the number of the last event that it handed out. A hint that there is more makes it read from
there, however many hints came meanwhile, so what a room costs grows with its events and not with its hints. Somebody
who joins has a position too, and is let in when the two are the same: nothing is lost between reading what was missed
and hearing what is new, nothing comes twice, and what has no number comes between the same events for everybody. Who
reads further than the room is takes the room along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from chat_api.kit.db import is_store_down
from chat_api.realtime.events import Batch, EventReader, SessionEvent, batch_of
from chat_api.realtime.frames import ephemeral
from chat_api.realtime.run_feed import RunFeed, Streams
from chat_api.runs.events import TERMINAL_TYPES, WAITING
from shared.logging import get_logger

log = get_logger("realtime.room")

_PAGE = 50
"""Events read at once, which is also what one reader may be given at once: a message has up to 400 KB."""
_RETRY_SECONDS = 0.5
_WHOLE = TERMINAL_TYPES | {"message.updated"}
"""Events of a run after which none of its pieces may come: the whole reply is told just before the run's end."""


class Follower(Protocol):
    """Who gets frames: a socket."""

    @property
    def user_id(self) -> UUID: ...

    @property
    def connection_id(self) -> str: ...

    def put(self, batch: Batch) -> None:
        """Send these, in order, when the reader takes them. Never waits."""
        ...

    async def drained(self) -> None:
        """Return when little waits to be sent. Raises when the socket is closed."""
        ...

    def put_out(self, session_id: UUID) -> None:
        """The session is no longer for this follower, who has had everything that was."""
        ...


class EventBatch:
    """Events that are handed out together, and what is the same for everybody who gets them."""

    __slots__ = ("batch", "events", "first_seq", "last_seq", "left")

    def __init__(self, events: Sequence[SessionEvent]) -> None:
        self.events = events
        self.batch = Batch([event.message for event in events])
        self.first_seq = events[0].event_seq
        self.last_seq = events[-1].event_seq
        self.left = {event.user_id for event in events if _is_leaving(event)}


class Subscription:
    """That a socket follows a session. `position` is the last event that it was given."""

    __slots__ = ("follower", "member_at", "position")

    def __init__(self, follower: Follower, position: int, member_at: int) -> None:
        self.follower = follower
        self.position = position
        self.member_at = member_at
        """An event at which the person was known to take part; having left before it means nothing."""

    def give(self, events: EventBatch) -> bool:
        """Hand over what is new to it. False when it ends there, because the person left."""
        if self.position >= events.first_seq or self.follower.user_id in events.left:
            return self._give_part(events)
        self.follower.put(events.batch)
        self.position = events.last_seq
        return True

    def _give_part(self, events: EventBatch) -> bool:
        new: list[SessionEvent] = []
        stays = True
        for event in events.events:
            if event.event_seq > self.position:
                new.append(event)
                if event.user_id == self.follower.user_id and _is_leaving(event) and event.event_seq > self.member_at:
                    stays = False
                    break
        if new:
            self.follower.put(Batch([event.message for event in new]))
            self.position = new[-1].event_seq
        return stays


class Room:
    """Made by the hub for the first who follows a session, and dropped after the last."""

    def __init__(self, session_id: UUID, position: int, events: EventReader, streams: Streams) -> None:
        self.session_id = session_id
        self.position = position
        self._events = events
        self._streams = streams
        self._wanted = position
        self._subscriptions: dict[Follower, Subscription] = {}
        self._joining = 0
        self._is_new = True
        self._is_gone = False
        self._over: set[UUID] = set()
        """Runs whose end was handed out while the active run was asked for, which may be one of them."""
        self._feed: RunFeed | None = None
        self._left: RunFeed | None = None
        """Of a run that waits for a decision: from there it is followed when it goes on."""
        self._reading: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def followers(self) -> list[Follower]:
        return list(self._subscriptions)

    @property
    def is_empty(self) -> bool:
        return not self._subscriptions and not self._joining

    def look(self, event_seq: int) -> None:
        """There are events up to this number. Reads them, unless that is done or under way."""
        self._wanted = max(self._wanted, event_seq)
        if self._wanted > self.position and self._reading is None and not self._closed:
            self._reading = asyncio.create_task(self._read(), name=f"room-{self.session_id}")

    async def join(self, follower: Follower, after_seq: int, member_at: int) -> bool:
        """Give what came after `after_seq`, then everything that comes.

        False when the person has left meanwhile, or the session is gone.
        """
        self._joining += 1
        try:
            if self._is_new:
                await self._find_active_run()
            return await self._catch_up(follower, after_seq, member_at)
        finally:
            self._joining -= 1

    async def _find_active_run(self) -> None:
        """A run that had begun before this room was made is followed from its beginning."""
        run_id = await self._events.active_run(self.session_id)
        if run_id is not None and self._feed is None and run_id not in self._over:
            self._follow_run(run_id)
        self._is_new = False
        self._over.clear()

    async def _catch_up(self, follower: Follower, after_seq: int, member_at: int) -> bool:
        subscription = Subscription(follower, after_seq, member_at)
        while True:
            await follower.drained()
            if self._is_gone:
                return False
            if subscription.position >= self.position >= member_at:
                break
            events = await self._events.after(self.session_id, min(subscription.position, self.position), _PAGE)
            if not events:
                return False  # the session was deleted
            self._hand_out(events)
            if not subscription.give(EventBatch(events)):
                return False
        # Nothing is awaited between the last look at the room's position and this.
        self._subscriptions[follower] = subscription
        if self._feed is not None:
            for kind, data in self._feed.so_far:
                follower.put(self._ephemeral(kind, data))
        return True

    def leave(self, follower: Follower) -> None:
        self._subscriptions.pop(follower, None)

    def broadcast(self, batch: Batch, *, but: str | None = None) -> None:
        """Hand something ephemeral to everybody, except the connection that it came from."""
        for follower in self._subscriptions:
            if follower.connection_id != but:
                follower.put(batch)

    def end(self) -> None:
        """The session is gone: put everybody out, and let nobody in."""
        self._is_gone = True
        for follower in self.followers:
            self.leave(follower)
            follower.put_out(self.session_id)

    def close(self) -> None:
        self._closed = True
        self._end_feed()
        if self._reading is not None:
            self._reading.cancel()

    def _ephemeral(self, kind: str, data: bytes) -> Batch:
        return batch_of(ephemeral(kind, self.session_id, data))

    async def _read(self) -> None:
        try:
            while self._wanted > self.position and not self._closed:
                try:
                    events = await self._events.after(self.session_id, self.position, _PAGE)
                except Exception as error:
                    if not is_store_down(error):
                        # The task's boundary: the next hint, or the sweep, tries again.
                        log.exception("room.read_failed", session_id=str(self.session_id))
                        break
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                if not events:
                    self._wanted = self.position  # the session is gone, and the hub hears of it
                    break
                self._hand_out(events)
        finally:
            self._reading = None

    def _hand_out(self, events: Sequence[SessionEvent]) -> None:
        """What is new to the room, to everybody at once, without waiting for anybody."""
        events = [event for event in events if event.event_seq > self.position]
        if not events:
            return
        for event in events:
            # Before its frame: the pieces of a reply never come after the whole.
            self._notice_run(event)
        batch = EventBatch(events)
        self.position = batch.last_seq
        out = [subscription for subscription in self._subscriptions.values() if not subscription.give(batch)]
        for subscription in out:
            self.leave(subscription.follower)
            subscription.follower.put_out(self.session_id)

    def _notice_run(self, event: SessionEvent) -> None:
        if event.run_id is None:
            return
        if event.type == "run.started":
            self._follow_run(event.run_id)
        elif event.type in _WHOLE:
            if self._is_new:
                self._over.add(event.run_id)
            if event.type in TERMINAL_TYPES and event.type != WAITING:
                self._left = None
            if self._feed is not None and self._feed.run_id == event.run_id:
                self._left = self._feed
                self._end_feed()

    def _follow_run(self, run_id: UUID) -> None:
        if self._feed is not None and self._feed.run_id == run_id:
            return
        self._end_feed()
        left = self._left if self._left is not None and self._left.run_id == run_id else None
        self._left = None
        self._feed = RunFeed(
            run_id, self._streams, lambda kind, data: self.broadcast(self._ephemeral(kind, data)), left
        )

    def _end_feed(self) -> None:
        if self._feed is not None:
            self._feed.stop()
            self._feed = None


def _is_leaving(event: SessionEvent) -> bool:
    return event.type == "participant.left"
