"""Streams of document events: every state, for as many as watch, without a connection held."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chat_api.documents.progress import DocumentWatch, Watched
from tests.factories.chat import API, ChatApi, Json, Person, chat_api, problem
from tests.factories.documents import HARBOUR, become, uploaded
from tests.stores import Database

WITHIN = 30.0
POLL_SECONDS = 0.5


class Watcher:
    """Reads a stream as it comes. Comments are counted, events kept."""

    def __init__(self, frames: AsyncIterator[bytes]) -> None:
        self.events: list[tuple[str, Json]] = []
        self.comments = 0
        self._frames = frames
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for frames in self._frames:
            for frame in frames.decode().split("\n\n")[:-1]:
                if frame.startswith(":"):
                    self.comments += 1
                    continue
                kind, data = frame.split("\n")
                self.events.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))

    async def until(self, count: int) -> list[tuple[str, Json]]:
        async with asyncio.timeout(WITHIN):
            while len(self.events) < count:
                await asyncio.sleep(0.01)
        return self.events

    async def end(self) -> list[tuple[str, Json]]:
        async with asyncio.timeout(WITHIN):
            await self._task
        return self.events

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def until_followed(chat: ChatApi, streams: int) -> None:
    watch: DocumentWatch = chat.app.state.document_watch
    async with asyncio.timeout(WITHIN):
        while sum(len(target.readers) for target in watch._targets.values()) < streams:
            await asyncio.sleep(0.01)


async def always() -> bool:
    return True


def watching(chat: ChatApi, bot: Json, document: Json | None = None) -> Watcher:
    """As the routes do it. httpx's ASGI transport would only tell when all is over."""
    watch: DocumentWatch = chat.app.state.document_watch
    watched = Watched(UUID(bot["id"]), None if document is None else UUID(document["id"]))
    return Watcher(watch.follow(watched, always))


async def read(chat: ChatApi, person: Person, path: str) -> list[tuple[str, Json]]:
    answer = await chat.client.get(f"{API}{path}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"

    async def body() -> AsyncIterator[bytes]:
        yield answer.content

    return await Watcher(body()).end()


async def test_a_document_that_is_ready_is_told_and_the_stream_ends(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    await become(chat, document, "ready", chunk_count=1)

    events = await read(chat, ann, f"/documents/{document['id']}/events")

    assert events == [("document.updated", document | {"status": "ready", "chunk_count": 1})]


@pytest.mark.parametrize("end", ["ready", "failed"])
async def test_a_document_is_followed_to_its_end(chat: ChatApi, ann: Person, bot: Json, end: str) -> None:
    [document] = await uploaded(chat, ann, bot)
    watcher = watching(chat, bot, document)
    await watcher.until(1)

    for done in (0, 5):
        await become(chat, document, "processing", progress_done=done, progress_total=10)
        await watcher.until(2 + done // 5)
    await become(chat, document, end, progress_done=10)
    events = await watcher.end()

    assert {kind for kind, _ in events} == {"document.updated"}
    states = [(data["status"], data["progress"]["done"]) for _, data in events]
    assert states == [("pending", 0), ("processing", 0), ("processing", 5), (end, 10)]
    assert events[0][1] == document


async def test_a_document_that_is_deleted_while_it_is_watched(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    watcher = watching(chat, bot, document)
    await watcher.until(1)

    await chat.client.delete(f"{API}/documents/{document['id']}", headers=ann.headers)

    gone = {"id": document["id"], "bot_id": bot["id"]}
    assert (await watcher.end())[1:] == [("document.deleted", gone)]


async def test_a_document_deleted_before_the_first_look(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    await chat.client.delete(f"{API}/documents/{document['id']}", headers=ann.headers)

    assert [kind for kind, _ in await watching(chat, bot, document).end()] == ["document.deleted"]


async def test_all_documents_of_a_bot(chat: ChatApi, ann: Person, bot: Json) -> None:
    ready, waiting = await uploaded(chat, ann, bot, ("a.txt", b"a"), ("b.txt", b"b"))
    await become(chat, ready, "ready")
    other = await chat.bot(ann, name="Other")
    watcher = watching(chat, bot)
    assert [data["id"] for _, data in await watcher.until(1)] == [waiting["id"]]

    await uploaded(chat, ann, other)
    await become(chat, waiting, "ready")
    assert (await watcher.until(2))[1][1]["status"] == "ready"
    [added] = await uploaded(chat, ann, bot, ("c.txt", b"c"))
    assert (await watcher.until(3))[2] == ("document.updated", added)
    await chat.client.delete(f"{API}/documents/{ready['id']}", headers=ann.headers)
    assert (await watcher.until(4))[3] == ("document.deleted", {"id": ready["id"], "bot_id": bot["id"]})
    await chat.client.post(f"{API}/documents/{waiting['id']}/reindex", headers=ann.headers)
    assert (await watcher.until(5))[4][1]["version"] == 2
    await watcher.leave()


async def test_many_watch_with_one_poll_and_no_connection(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    watchers = [watching(chat, bot, document if at % 2 else None) for at in range(60)]
    for watcher in watchers:
        await watcher.until(1)
    database = chat.app.state.database
    polls = 0
    real = database.fetch_rows

    async def counted(statement: str, *args: Any) -> Any:
        nonlocal polls
        polls += "xmin" in statement
        return await real(statement, *args)

    database.fetch_rows = counted
    samples = []
    began = time.monotonic()
    for _ in range(60):
        samples.append(database.connections_in_use())
        await asyncio.sleep(0.02)
    polled_for = time.monotonic() - began
    database.fetch_rows = real
    await become(chat, document, "ready")

    for watcher in watchers[1::2]:
        assert (await watcher.end())[-1][1]["status"] == "ready"
    for watcher in watchers[::2]:
        assert (await watcher.until(2))[-1][1]["status"] == "ready"
        await watcher.leave()
    assert polls <= 2 + polled_for / POLL_SECONDS
    assert min(samples) == 0, "none is held for as long as somebody watches"
    assert chat.app.state.document_watch._targets == {}


async def test_who_may_watch(chat: ChatApi, ann: Person, bob: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    for path, code in (
        (f"/documents/{document['id']}/events", "document-not-found"),
        (f"/bots/{bot['id']}/documents/events", "bot-not-found"),
    ):
        answer = await chat.client.get(f"{API}{path}", headers=bob.headers)
        assert problem(answer) == (404, code)

    await chat.client.patch(f"{API}/bots/{bot['id']}", json={"visibility": "public"}, headers=ann.headers)
    await become(chat, document, "ready")
    assert len(await read(chat, bob, f"/documents/{document['id']}/events")) == 1


@asynccontextmanager
async def a_quick_chat(database: Database, folder: Path, *, longest: float = 1) -> AsyncIterator[ChatApi]:
    async with chat_api(
        database.api_url, None, data_dir=folder, document_watch_seconds=longest, sse_keepalive_seconds=0.05
    ) as chat:
        yield chat


async def test_a_quiet_stream_is_kept_open_and_ends_after_its_time(clean_database: Database, tmp_path: Path) -> None:
    async with a_quick_chat(clean_database, tmp_path) as chat:
        ann = await chat.person("ann")
        bot = await chat.bot(ann)
        [document] = await uploaded(chat, ann, bot)

        watcher = watching(chat, bot, document)
        events = await watcher.end()

        assert [data["status"] for _, data in events] == ["pending"]
        assert watcher.comments >= 2
        assert await read(chat, ann, f"/bots/{bot['id']}/documents/events") == events


async def test_who_may_not_watch_any_more_sees_the_streams_end(clean_database: Database, tmp_path: Path) -> None:
    async with a_quick_chat(clean_database, tmp_path, longest=60) as chat:
        ann, bob = await chat.person("ann"), await chat.person("bob")
        bot = await chat.bot(ann, visibility="shared")
        await chat.share(ann, bot, bob)
        [document] = await uploaded(chat, ann, bot)
        paths = (f"/documents/{document['id']}/events", f"/bots/{bot['id']}/documents/events")
        streams = [asyncio.create_task(read(chat, person, path)) for path in paths for person in (ann, bob)]
        await until_followed(chat, len(streams))
        await asyncio.sleep(0.2)  # the right to watch is looked at meanwhile
        assert not any(stream.done() for stream in streams)

        await chat.client.delete(f"{API}/bots/{bot['id']}/shares/{bob.id}", headers=ann.headers)
        async with asyncio.timeout(WITHIN):
            for stream in streams[1::2]:
                assert [data["id"] for _, data in await stream] == [document["id"]]
        assert not any(stream.done() for stream in streams[::2])

        await chat.client.delete(f"{API}/bots/{bot['id']}", headers=ann.headers)
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*streams)


async def test_streams_end_when_the_process_is_told_to_stop(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    watchers = [watching(chat, bot), watching(chat, bot, document)]
    for watcher in watchers:
        await watcher.until(1)

    chat.app.state.document_watch.stop_following()

    for watcher in watchers:
        assert len(await watcher.end()) == 1
    assert await read(chat, ann, f"/bots/{bot['id']}/documents/events") == []


async def test_a_slow_reader_gets_the_latest_state(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot, HARBOUR)
    watch: DocumentWatch = chat.app.state.document_watch
    frames = watch.follow(Watched(UUID(bot["id"]), None), always)
    await anext(frames)
    beside = watching(chat, bot)
    await beside.until(1)
    for done in (1, 2, 3):
        await become(chat, document, "processing", progress_done=done)
        await beside.until(1 + done)

    late = await anext(frames)

    assert late.count(b"event:") == 1
    assert b'"progress":{"done":3' in late
    await frames.aclose()  # type: ignore[attr-defined]  # it is a generator
    await beside.leave()
