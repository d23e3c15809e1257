"""What grows is passed on piece by piece, and to who comes late in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID, uuid4

import orjson
import pytest

from chat_api.kit.models import new_id
from chat_api.realtime.run_feed import RunFeed
from chat_api.runs.events import RunEvent, delta_data

MESSAGE = new_id()


class Script:
    """A stream that gives these batches, then what the test says, and raises errors where they stand."""

    def __init__(self, *batches: list[RunEvent] | Exception) -> None:
        self._batches = batches
        self.is_closed = False

    async def follow(self, run_id: UUID, after: int, *, may_skip: bool = False) -> AsyncGenerator[list[RunEvent], None]:
        try:
            for batch in self._batches:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            self.is_closed = True


def piece(number: int, offset: int, text: str) -> RunEvent:
    return RunEvent(number, "message.delta", delta_data(MESSAGE, offset, text))


class Heard(list[tuple[str, bytes]]):
    def pass_on(self, kind: str, data: bytes) -> None:
        self.append((kind, data))

    @property
    def texts(self) -> list[tuple[int, str]]:
        return texts(self)


def texts(pieces: list[tuple[str, bytes]]) -> list[tuple[int, str]]:
    return [
        (data["offset"], data["text"])
        for kind, raw in pieces
        if kind == "message.delta"
        for data in [orjson.loads(raw)]
    ]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_pieces_and_sources_pass_and_nothing_that_is_durable() -> None:
    heard = Heard()
    sources = RunEvent(5, "message.citations", b'{"citations": []}')
    feed = RunFeed(
        uuid4(),
        Script(
            [RunEvent(3, "message.created", b"{}"), piece(4, 0, "a")],
            [],
            [sources, RunEvent(6, "run.completed", b"{}")],
        ),
        heard.pass_on,
    )
    await settled()
    assert [kind for kind, _ in heard] == ["message.delta", "message.citations"]
    assert feed.so_far[1] == ("message.citations", b'{"citations": []}')
    feed.stop()


async def test_offsets_count_code_points_also_beyond_the_first_plane() -> None:
    heard = Heard()
    feed = RunFeed(uuid4(), Script([piece(4, 0, "a😀"), piece(5, 2, "é")]), heard.pass_on)
    await settled()
    assert texts(feed.so_far) == [(0, "a😀é")]
    assert heard.texts == [(0, "a😀"), (2, "é")]
    feed.stop()


async def test_a_reply_that_is_begun_again_is_cut_where_it_goes_on() -> None:
    heard = Heard()
    feed = RunFeed(uuid4(), Script([piece(4, 0, "first try"), piece(5, 6, "go")]), heard.pass_on)
    await settled()
    assert texts(feed.so_far) == [(0, "first go")]
    feed.stop()


async def test_before_the_first_piece_there_is_nothing_to_tell() -> None:
    feed = RunFeed(uuid4(), Script([]), Heard().pass_on)
    await settled()
    assert feed.so_far == []
    feed.stop()


async def test_stopping_gives_the_stream_back_and_nothing_comes_after() -> None:
    heard, script = Heard(), Script([piece(4, 0, "a")], [piece(5, 1, "b")])
    feed = RunFeed(uuid4(), script, heard.pass_on)
    await asyncio.sleep(0)
    assert heard.texts == [(0, "a")]
    feed.stop()
    await settled()
    assert heard.texts == [(0, "a")]
    assert script.is_closed


@pytest.mark.parametrize("error", [ConnectionResetError(), RuntimeError("unheard of")], ids=["store", "bug"])
async def test_an_error_ends_the_growing_and_nothing_else(error: Exception) -> None:
    heard = Heard()
    feed = RunFeed(uuid4(), Script([piece(4, 0, "a")], error), heard.pass_on)
    await settled()
    assert heard.texts == [(0, "a")]
    assert texts(feed.so_far) == [(0, "a")]
    feed.stop()


WAITS = RunEvent(6, "run.awaiting_approval", b"{}")
GOES_ON = RunEvent(7, "run.started", b"{}")


async def test_what_was_said_before_a_wait_that_is_over_is_not_told_again() -> None:
    heard = Heard()
    feed = RunFeed(uuid4(), Script([piece(4, 0, "May I?"), WAITS, GOES_ON, piece(8, 6, "Done.")]), heard.pass_on)
    await settled()
    assert heard.texts == texts(feed.so_far) == [(6, "Done.")]
    feed.stop()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_feed_that_was_left_before_the_wait_goes_on_after_it(kept: bool) -> None:
    """Also where nobody keeps the wait any more: whatever was said until then was told whole."""
    left = RunFeed(uuid4(), Script([piece(4, 0, "May")]), Heard().pass_on)
    await settled()
    left.stop()
    heard = Heard()
    wait = [[piece(5, 3, " I?"), WAITS]] if kept else []
    feed = RunFeed(left.run_id, Script(*wait, [GOES_ON, piece(8, 6, "Done.")]), heard.pass_on, left)
    await settled()
    assert heard.texts == [(6, "Done.")]
    feed.stop()
