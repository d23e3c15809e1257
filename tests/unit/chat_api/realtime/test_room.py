"""A room hands every event to everybody once and in order, whatever comes in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from chat_api.realtime.events import batch_of
from chat_api.realtime.room import Room
from tests.fakes.realtime import EventsInMemory, FollowerInMemory, StreamsInMemory


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def settled() -> None:
    await turns(60)


def has_pieces_after(follower: FollowerInMemory, event_seq: int) -> bool:
    """Whether anything without a number came after the event with this one."""
    kinds = [frame["type"] if "event_seq" not in frame else frame["event_seq"] for frame in follower.frames]
    return event_seq in kinds and "message.delta" in kinds[kinds.index(event_seq) :]


@pytest.fixture
def events() -> EventsInMemory:
    return EventsInMemory()


@pytest.fixture
async def room(events: EventsInMemory) -> AsyncIterator[Room]:
    room = Room(events.session_id, 0, events, StreamsInMemory())
    yield room
    room.close()


@pytest.mark.parametrize("seed", range(60))
async def test_events_hints_joins_and_leaves_in_any_order(seed: int) -> None:
    """Hints come late, twice or never; people join behind and ahead of the room, and leave again."""
    chance = random.Random(seed)
    events = EventsInMemory(chance)
    room = Room(events.session_id, 0, events, StreamsInMemory())
    followers: list[tuple[FollowerInMemory, int]] = []

    async def add_events() -> None:
        for _ in range(80):
            event = events.add()
            if chance.random() < 0.6:
                room.look(event.event_seq)
            await turns(chance.randrange(5))

    async def come(after: int) -> None:
        follower = FollowerInMemory()
        followers.append((follower, after))
        await room.join(follower, after, len(events.events))
        if chance.random() < 0.2:
            room.leave(follower)
            followers.remove((follower, after))

    async def keep_coming() -> None:
        for _ in range(20):
            await come(chance.randrange(len(events.events) + 1))
            await turns(chance.randrange(8))

    await asyncio.gather(add_events(), keep_coming())
    room.look(80)
    async with asyncio.timeout(30):
        while room.position < 80:
            await asyncio.sleep(0)
    assert len(followers) > 5
    for follower, after in followers:
        assert follower.numbers == list(range(after + 1, 81))
    room.close()


async def test_many_hints_are_one_read(room: Room, events: EventsInMemory) -> None:
    follower = FollowerInMemory()
    await room.join(follower, 0, 0)
    for _ in range(50):
        room.look(events.add().event_seq)
    await settled()
    assert follower.numbers == list(range(1, 51))
    assert events.reads == 1


async def test_a_hint_of_what_is_known_reads_nothing(room: Room, events: EventsInMemory) -> None:
    follower = FollowerInMemory()
    await room.join(follower, 0, 0)
    room.look(events.add().event_seq)
    await settled()
    room.look(1)
    await settled()
    assert (events.reads, follower.numbers) == (1, [1])


async def test_a_store_that_is_away_delays_and_loses_nothing(room: Room, events: EventsInMemory) -> None:
    follower = FollowerInMemory()
    await room.join(follower, 0, 0)
    events.failures = [ConnectionRefusedError()]
    room.look(events.add().event_seq)
    async with asyncio.timeout(30):
        while follower.numbers != [1]:
            await asyncio.sleep(0.05)


async def test_who_is_removed_hears_of_it_and_of_nothing_after(room: Room, events: EventsInMemory) -> None:
    removed, stays = FollowerInMemory(), FollowerInMemory()
    for follower in (removed, stays):
        await room.join(follower, 0, 0)
    events.add()
    events.add("participant.left", user_id=removed.user_id)
    room.look(events.add().event_seq)
    await settled()
    assert (removed.numbers, removed.put_out_of) == ([1, 2], [events.session_id])
    assert (stays.numbers, stays.put_out_of) == ([1, 2, 3], [])
    room.broadcast(batch_of(b'{"type": "typing", "data": {}}'))
    assert removed.of("typing") == []
    assert stays.of("typing") == [{}]


async def test_who_is_removed_while_they_catch_up_is_not_let_in(room: Room, events: EventsInMemory) -> None:
    follower = FollowerInMemory()
    events.add()
    events.add()
    seen_at = 2
    events.add("participant.left", user_id=follower.user_id)
    events.add()
    room.look(4)
    await settled()
    assert not await room.join(follower, 0, seen_at)
    assert follower.numbers == [1, 2, 3]
    assert room.followers == []


async def test_having_left_and_come_back_is_history(room: Room, events: EventsInMemory) -> None:
    follower = FollowerInMemory()
    events.add("participant.left", user_id=follower.user_id)
    events.add("participant.joined", user_id=follower.user_id)
    assert await room.join(follower, 0, 2)
    assert follower.numbers == [1, 2]
    room.look(events.add().event_seq)
    await settled()
    assert follower.numbers == [1, 2, 3]


async def test_a_slow_reader_is_replayed_page_by_page(events: EventsInMemory) -> None:
    for _ in range(120):
        events.add()
    room = Room(events.session_id, 120, events, StreamsInMemory())
    follower = FollowerInMemory()
    follower.easy.clear()
    joining = asyncio.create_task(room.join(follower, 0, 120))
    await settled()
    assert follower.numbers == []
    follower.easy.set()
    assert await joining
    assert follower.numbers == list(range(1, 121))
    assert events.reads == 3


async def test_who_reads_further_than_the_room_takes_everybody_along(room: Room, events: EventsInMemory) -> None:
    early, late = FollowerInMemory(), FollowerInMemory()
    await room.join(early, 0, 0)
    for _ in range(3):
        events.add()
    await room.join(late, 1, 3)
    assert (early.numbers, late.numbers, room.position) == ([1, 2, 3], [2, 3], 3)


async def test_nobody_is_let_into_a_session_that_is_gone(events: EventsInMemory) -> None:
    events.add()
    events.is_gone = True
    room = Room(events.session_id, 1, events, StreamsInMemory())
    assert not await room.join(FollowerInMemory(), 0, 1)
    assert room.is_empty


async def test_a_session_that_is_deleted_while_somebody_joins(room: Room, events: EventsInMemory) -> None:
    there, joining = FollowerInMemory(), FollowerInMemory()
    await room.join(there, 0, 0)
    joining.easy.clear()
    task = asyncio.create_task(room.join(joining, 0, 0))
    await settled()
    room.end()
    joining.easy.set()
    assert not await task
    assert (there.put_out_of, joining.put_out_of) == ([events.session_id], [])
    assert room.is_empty


async def test_a_room_outlives_an_error_that_nobody_thought_of(room: Room, events: EventsInMemory) -> None:
    follower = FollowerInMemory()
    await room.join(follower, 0, 0)
    events.failures = [RuntimeError("unheard of")]
    room.look(events.add().event_seq)
    await settled()
    room.look(events.add().event_seq)
    await settled()
    assert follower.numbers == [1, 2]


async def test_something_ephemeral_does_not_go_back_to_where_it_came_from(room: Room) -> None:
    speaker, listener = FollowerInMemory(), FollowerInMemory()
    for follower in (speaker, listener):
        await room.join(follower, 0, 0)
    room.broadcast(batch_of(b'{"type": "typing", "data": {}}'), but=speaker.connection_id)
    assert (speaker.of("typing"), listener.of("typing")) == ([], [{}])


class TestAReplyThatGrows:
    """Its pieces are read once for the room, and never come after the whole."""

    @pytest.fixture
    def streams(self) -> StreamsInMemory:
        return StreamsInMemory()

    @pytest.fixture
    async def room(self, events: EventsInMemory, streams: StreamsInMemory) -> AsyncIterator[Room]:
        room = Room(events.session_id, 0, events, streams)
        yield room
        room.close()

    async def test_it_reaches_everybody_by_one_reading(
        self, room: Room, events: EventsInMemory, streams: StreamsInMemory
    ) -> None:
        followers = [FollowerInMemory() for _ in range(3)]
        for follower in followers:
            await room.join(follower, 0, 0)
        run_id = uuid4()
        room.look(events.add("run.started", run_id=run_id).event_seq)
        await settled()
        await streams.say("So ")
        await streams.say("far.")
        await settled()
        assert streams.followed == [(run_id, 3)]
        for follower in followers:
            assert [(piece["offset"], piece["text"]) for piece in follower.of("message.delta")] == [  # type: ignore[index]  # parsed JSON
                (0, "So "),
                (3, "far."),
            ]

    async def test_who_comes_later_gets_what_was_said_in_one_piece(
        self, room: Room, events: EventsInMemory, streams: StreamsInMemory
    ) -> None:
        await room.join(FollowerInMemory(), 0, 0)
        room.look(events.add("run.started", run_id=uuid4()).event_seq)
        await settled()
        await streams.say("So ")
        await streams.say("far")
        await settled()
        late = FollowerInMemory()
        await room.join(late, 0, 1)
        await streams.say(".")
        await settled()
        assert [(piece["offset"], piece["text"]) for piece in late.of("message.delta")] == [(0, "So far"), (6, ".")]  # type: ignore[index]  # parsed JSON

    async def test_a_run_that_began_before_the_room_is_followed_too(
        self, room: Room, events: EventsInMemory, streams: StreamsInMemory
    ) -> None:
        events.running = uuid4()
        await streams.say("Already")
        follower = FollowerInMemory()
        await room.join(follower, 0, 0)
        await settled()
        assert [piece["text"] for piece in follower.of("message.delta")] == ["Already"]  # type: ignore[index]  # parsed JSON

    async def test_nothing_comes_after_the_whole(
        self, room: Room, events: EventsInMemory, streams: StreamsInMemory
    ) -> None:
        follower = FollowerInMemory()
        await room.join(follower, 0, 0)
        run_id = uuid4()
        room.look(events.add("run.started", run_id=run_id).event_seq)
        await settled()
        events.add("message.updated", run_id=None)
        room.look(events.add("run.completed", run_id=run_id).event_seq)
        await settled()
        await streams.say("too late")
        await settled()
        assert [frame["type"] for frame in follower.frames] == ["run.started", "message.updated", "run.completed"]

    async def test_not_even_before_the_end_of_the_run_is_read(
        self, room: Room, events: EventsInMemory, streams: StreamsInMemory
    ) -> None:
        """The whole reply may be the last event of a page, and the end of its run the first of the next."""
        follower = FollowerInMemory()
        await room.join(follower, 0, 0)
        run_id = uuid4()
        room.look(events.add("run.started", run_id=run_id).event_seq)
        await settled()
        await streams.say("So far")
        await settled()
        room.look(events.add("message.updated", run_id=run_id).event_seq)
        await settled()
        await streams.say("too late")
        await settled()
        late = FollowerInMemory()
        await room.join(late, 0, 2)
        assert [frame["type"] for frame in follower.frames] == ["run.started", "message.delta", "message.updated"]
        assert late.of("message.delta") == []

    @pytest.mark.parametrize("after", [0, 1, 2, 3])
    async def test_who_joins_ahead_of_the_room_gets_no_piece_after_the_whole(
        self, after: int, room: Room, events: EventsInMemory, streams: StreamsInMemory
    ) -> None:
        early = FollowerInMemory()
        await room.join(early, 0, 0)
        run_id = uuid4()
        room.look(events.add("run.started", run_id=run_id).event_seq)
        await settled()
        await streams.say("So far")
        await settled()
        events.add("message.updated", run_id=run_id)
        events.add("run.completed", run_id=run_id)
        # No hint came yet.
        late = FollowerInMemory()
        await room.join(late, after, 3)
        await streams.say("too late")
        await settled()
        whole = ["run.started", "message.updated", "run.completed"]
        assert [frame["type"] for frame in late.frames] == whole[after:]
        assert [frame["type"] for frame in early.frames] == ["run.started", "message.delta", *whole[1:]]

    async def test_a_run_that_ended_while_it_was_asked_for_is_not_followed(self, streams: StreamsInMemory) -> None:
        run_id = uuid4()
        answer = asyncio.Event()

        class SlowToTell(EventsInMemory):
            async def active_run(self, session_id: UUID) -> UUID | None:
                await answer.wait()
                return run_id

        events = SlowToTell()
        room = Room(events.session_id, 0, events, streams)
        follower = FollowerInMemory()
        joining = asyncio.create_task(room.join(follower, 0, 0))
        await settled()
        room.look(events.add("run.completed", run_id=run_id).event_seq)
        await settled()
        answer.set()
        await joining
        await streams.say("too late")
        await settled()
        assert [frame["type"] for frame in follower.frames] == ["run.completed"]
        assert streams.followed == []
        room.close()

    async def test_the_active_run_is_asked_for_again_after_a_failure(self, streams: StreamsInMemory) -> None:
        class FailsOnce(EventsInMemory):
            fails = True

            async def active_run(self, session_id: UUID) -> UUID | None:
                if self.fails:
                    self.fails = False
                    raise ConnectionResetError
                return self.running

        events = FailsOnce()
        events.running = uuid4()
        room = Room(events.session_id, 0, events, streams)
        with pytest.raises(ConnectionResetError):
            await room.join(FollowerInMemory(), 0, 0)
        assert room.is_empty
        await room.join(FollowerInMemory(), 0, 0)
        await settled()
        assert [run_id for run_id, _ in streams.followed] == [events.running]
        room.close()

    @pytest.mark.parametrize("seed", range(60))
    async def test_whoever_comes_whenever_the_whole_is_the_last_word(self, seed: int) -> None:
        chance = random.Random(seed)
        events, streams = EventsInMemory(chance), StreamsInMemory()
        room = Room(events.session_id, 0, events, streams)
        followers: list[FollowerInMemory] = []
        run_id = uuid4()

        def happen(kind: str, run_id: UUID | None = None) -> None:
            event = events.add(kind, run_id=run_id)
            if chance.random() < 0.6:
                room.look(event.event_seq)

        async def reply() -> None:
            happen("run.started", run_id)
            for _ in range(12):
                await streams.say("word ")
                if chance.random() < 0.3:
                    happen("message.created")
                await turns(chance.randrange(5))
            happen("message.updated", run_id)
            happen("run.completed", run_id)
            for _ in range(12):
                await streams.say("late ")
                await turns(chance.randrange(4))

        async def come() -> None:
            for _ in range(20):
                follower = FollowerInMemory()
                followers.append(follower)
                last = len(events.events)
                await room.join(follower, chance.randrange(last + 1), last)
                await turns(chance.randrange(8))

        await asyncio.gather(reply(), come())
        room.look(len(events.events))
        async with asyncio.timeout(30):
            while room.position < len(events.events):
                await asyncio.sleep(0)
        whole_at = next(event.event_seq for event in events.events if event.type == "message.updated")
        assert [follower.frames for follower in followers if has_pieces_after(follower, whole_at)] == []
        room.close()
