"""A person takes everything with them and is erased: nothing is left in any table of both services, nor in the storage.

The tables are those that the database lists. One that is new fails this test, until something of the person is put
into it (`everything_of`) and taken out of it again by the erasure.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

import agent_service.main
from agent_service.adapters.wiring import Parts, assemble
from agent_service.config import AgentSettings
from chat_api.analytics.recount import Recount
from chat_api.clients.collections import HttpCollections
from chat_api.kit.outbox import Jobs
from chat_api.runs.service import RunService
from chat_api.worker import account_runner
from shared.settings import Environment
from tests.factories.chat import API, ChatApi, Json, chat_api
from tests.factories.document_jobs import ParagraphExtraction
from tests.factories.documents import stored_files
from tests.factories.everything_of import (
    PASSWORD,
    WORD,
    Everything,
    empty_tables,
    everything_of,
    found_in,
    tables,
)
from tests.fakes.embedder import HashingEmbedder
from tests.stores import Database

NOT_OF_PEOPLE = {
    "agent.embedding_models",
    "agent.index_state",
    "agent.embedded_texts",
    "chat.vector_model",
    "chat.search_backlog",
    "chat.analytics_days",
}
"""Names of models, a place in a walk, figures of everybody together; and vectors without a text, which go as soon as
their document is put.
"""


@dataclass
class Both:
    chat: ChatApi
    database: Database
    everything: Everything
    collections: HttpCollections

    async def erase(self) -> None:
        answer = await self.chat.client.request(
            "DELETE", f"{API}/users/me", json={"password": PASSWORD}, headers=self.everything.person.headers
        )
        assert answer.status_code == 202, answer.text
        await self.work()

    async def work(self) -> None:
        """The one run of the job."""
        state = self.chat.app.state
        engine = state.runs
        runs = RunService(engine.repository, engine.executor, engine.streams, engine.sends, engine.quotas)
        runner = account_runner(
            self.chat.settings, state.database, state.storage, self.collections, runs, state.hints, self.chat.clock
        )
        await self.chat.rows("UPDATE chat.outbox SET available_at = now()")
        [entry] = await Jobs(state.database).due(runner.topics, 10)
        await runner.run(entry.id)


@pytest.fixture
async def both(clean_database: Database, redis_url: str, tmp_path: Path) -> AsyncIterator[Both]:
    settings = AgentSettings(
        _env_file=None,
        environment=Environment.TEST,
        data_dir=tmp_path / "agent",
        local_model_path=tmp_path / "none.gguf",
        agent_database_url=SecretStr(clean_database.agent_url),
    )

    def parts(loaded: AgentSettings) -> Parts:
        return assemble(loaded, HashingEmbedder())

    agent = agent_service.main.create_app(settings, parts)
    async with (
        agent.router.lifespan_context(agent),
        chat_api(clean_database.api_url, redis_url, data_dir=tmp_path / "chat") as chat,
    ):
        collections = HttpCollections(chat.settings, transport=httpx.ASGITransport(agent))
        everything = await everything_of(chat, ParagraphExtraction(), collections)
        yield Both(chat, clean_database, everything, collections)
        await collections.close()


async def test_everything_is_handed_out_and_then_nothing_is_left(both: Both) -> None:
    """One test, because it takes seconds to put something of somebody into every table."""
    everything = both.everything
    bot_id = everything.bot["id"]
    before = await found_in(both.database, [*everything.needles, bot_id])
    assert await empty_tables(both.database) - NOT_OF_PEOPLE == set()
    assert set(await tables(both.database)) - before.keys() - NOT_OF_PEOPLE == set(), "nothing of the person is there"
    assert {needle for hits in before.values() for needle in hits} == {*everything.needles, bot_id}
    assert any(WORD.encode() in content for content in stored_files(both.chat).values())
    await check_archive(both)
    figures = await totals(both)
    seen_by_others = await both.chat.history(everything.friend, everything.others_room)

    await both.erase()

    after = await found_in(both.database, [*everything.needles, bot_id])
    # That there was a bot by this id: for the agent, which must not make it again, and for sessions that were on it.
    assert after == {"agent.collections": [bot_id], "chat.sessions": [bot_id]}
    for key, content in stored_files(both.chat).items():
        text = key + content.decode(errors="replace")
        assert not any(needle in text for needle in everything.needles), key
    assert await both.chat.rows("SELECT topic FROM chat.outbox WHERE topic LIKE 'account.%'") == []
    await check_what_stays(both, seen_by_others)
    assert await Recount(both.chat.app.state.database).differences() == []
    assert await totals(both) < figures


async def totals(both: Both) -> int:
    [row] = await both.chat.rows("SELECT count(*) AS messages FROM chat.messages WHERE deleted_at IS NULL")
    return int(row["messages"])


async def check_archive(both: Both) -> None:
    everything, chat = both.everything, both.chat
    answer = await chat.client.get(f"{API}/users/me/export", headers=everything.person.headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    listed = {file["name"]: (file["size_bytes"], file["sha256"]) for file in manifest["files"]}
    assert listed == {
        name: (len(content), hashlib.sha256(content).hexdigest())
        for name, content in files.items()
        if name != "manifest.json"
    }
    assert manifest["missing"] == []
    read = {name: json.loads(content) for name, content in files.items() if name.endswith(".json")}
    whole = "\n".join(content.decode(errors="replace") for content in files.values())
    secret = everything.needles[-1]
    assert secret not in whole, "half of a refresh token"
    for needle in everything.needles[:-1]:
        assert needle in whole, needle
    assert "none" not in read["profile.json"]
    assert {"id", "email", "username"} <= read["profile.json"].keys()
    assert not {"password_hash", "secret_hash"} & set(re.findall(r'"(\w+)":', whole))
    alone = read[f"sessions/{everything.alone['id']}.json"]
    assert alone["messages"][0]["content"] == f"A {WORD}"
    assert f"sessions/{everything.own_room['id']}.json" in read
    for room in (everything.others_room, everything.left_room):
        said = read[f"rooms/{room['id']}.json"]["messages"]
        assert said
        assert all(WORD in message["content"] for message in said), "others' words are theirs"
    assert f"rooms/{everything.reader['id']}.json" not in read
    assert "I keep bees." not in json.dumps([content for name, content in read.items() if name.startswith("rooms/")])
    assert [one["message_id"] for one in read["reactions.json"]] == [everything.others_message]
    assert read["tool-decisions.json"][0]["reason"] == WORD
    assert read["usage.json"][0]["messages"] >= 5
    [document] = [content for name, content in files.items() if name.endswith(f"/{WORD}.md")]
    assert document == f"# {WORD}\n\nAll about the {WORD}.".encode()
    assert len([name for name in files if name.startswith("attachments/")]) == 3
    assert all(".." not in name and not name.startswith("/") for name in files)


async def check_what_stays(both: Both, before: list[Json]) -> None:
    """What others said and have, and that they can see what happened."""
    everything, chat = both.everything, both.chat
    friend = everything.friend
    after = await chat.history(friend, everything.others_room)
    assert [message["seq"] for message in after] == [message["seq"] for message in before]
    his = [message for message in after if message["sender"] and message["sender"]["id"] == str(friend.id)]
    assert [message["content"] for message in his] == ["I keep bees."]
    assert list(his[0]["reactions"].values()) == [[str(friend.id)]]
    [reply] = [message for message in after if message["parent_id"] == his[0]["id"]]
    assert reply["content"] == "You said: I keep bees."
    lines = [message["content"] for message in after if message["role"] == "system"]
    assert lines == ["bob added somebody"]
    left = await chat.history(friend, everything.left_room)
    assert [message["content"] for message in left] == ["bob added somebody", "", "Somebody left"]
    [kept] = [message for message in await chat.history(friend, everything.reader) if message["role"] == "assistant"]
    assert [citation["document_name"] for citation in kept["citations"]] == ["b"]
    room = (await chat.client.get(f"{API}/sessions/{everything.own_room['id']}", headers=friend.headers)).json()
    assert room["owner_id"] == str(friend.id)
    assert [(one["username"], one["role"]) for one in room["participants"]] == [("bob", "owner")]
    assert (room["title"], room["metadata"]) == ("Conversation", {})
    assert [message["content"] for message in await chat.history(friend, room)] == ["Somebody added bob", "", ""]
    for session in (everything.others_room, everything.own_room, everything.left_room, everything.reader):
        rows = await chat.rows(
            "SELECT e.event_seq, s.last_event_seq FROM chat.session_events e JOIN chat.sessions s"
            " ON s.id = e.session_id WHERE e.session_id = $1 ORDER BY 1",
            UUID(session["id"]),
        )
        assert [row["event_seq"] for row in rows] == list(range(1, rows[0]["last_event_seq"] + 1))
    [entry] = await chat.rows("SELECT * FROM chat.audit_log WHERE action = 'account.erased'")
    [asked] = await chat.rows("SELECT * FROM chat.audit_log WHERE action = 'account.erasure_requested'")
    assert entry["subject_id"] == asked["subject_id"] == asked["actor_id"]
    assert entry["details"] == {"sessions_deleted": 1, "rooms_left": 4}
