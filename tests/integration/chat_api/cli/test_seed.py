"""Seeding: rows that the API can read and the figures count, and nothing of anybody else's touched."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from click.testing import CliRunner

from chat_api.analytics.recount import Recount
from chat_api.bots.service import BOT_PURGE
from chat_api.cli.main import colloquy
from chat_api.cli.seeding.seed import CannotSeed, Seed, Wanted
from chat_api.cli.seeding.size import Size, amount_of
from chat_api.clients.connection import AgentUnavailable
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.reading import read_document
from chat_api.documents.models import INDEX_TOPIC
from chat_api.kit.storage import ObjectStorage, local_storage
from chat_api.users.passwords import Argon2PasswordHasher
from tests.factories.chat import ChatApi, Person
from tests.factories.document_jobs import ScriptedIndex
from tests.stores import Database

ALL = Wanted(Size.SMALL, clear=False, documents=True, conversations=True)
AMOUNT = amount_of(Size.SMALL)


def price(provider: str, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
    return Decimal(prompt_tokens + completion_tokens) / 1_000_000


@pytest.fixture
async def pool(clean_database: Database) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(Database.dsn(clean_database.api_url), min_size=1, max_size=3) as pool:
        yield pool


@pytest.fixture
def storage(tmp_path: Path) -> ObjectStorage:
    return local_storage(tmp_path / "storage")


@pytest.fixture
def index() -> ScriptedIndex:
    return ScriptedIndex()


@pytest.fixture
def seed(pool: asyncpg.Pool, storage: ObjectStorage, index: ScriptedIndex) -> Seed:
    return Seed(pool, storage, index, price)


async def test_what_is_counted_is_what_is_there(seed: Seed, pool: asyncpg.Pool, chat: ChatApi) -> None:
    seeded = await seed.run(ALL, "a password")

    assert (seeded.conversations, len(seeded.people)) == (AMOUNT.conversations, AMOUNT.people)
    wrong = await pool.fetchval(
        """
        SELECT count(*) FROM chat.sessions s CROSS JOIN LATERAL (
            SELECT count(*) AS number, max(seq) AS last, max(created_at) AS at FROM chat.messages m
            WHERE m.session_id = s.id
        ) m
        WHERE (s.message_count, s.last_seq, s.last_activity_at) IS DISTINCT FROM (m.number, m.last, m.at)
           OR s.participant_count <> (SELECT count(*) FROM chat.participants p WHERE p.session_id = s.id)
        """
    )
    assert wrong == 0
    assert await pool.fetchval("SELECT count(*) FROM chat.messages") == seeded.messages
    assert await pool.fetchval("SELECT bool_and(created_at < now()) FROM chat.messages")
    assert await Recount(chat.app.state.database).differences() == []


async def test_everything_can_be_read_over_the_api(seed: Seed, chat: ChatApi) -> None:
    seeded = await seed.run(ALL, "a password")
    token = chat.app.state.authenticator.mint_access_token(seeded.people[0])
    ada = Person(seeded.people[0], "seed-ada", {"Authorization": f"Bearer {token}"})

    async def read(path: str) -> dict[str, object]:
        answer = await chat.client.get(f"/api/v1{path}", headers=ada.headers)
        assert answer.status_code == 200, (path, answer.text)
        body: dict[str, object] = answer.json()
        return body

    sessions = await read("/sessions")
    assert isinstance(sessions["items"], list)
    assert sessions["items"]
    for session in sessions["items"]:
        messages = await read(f"/sessions/{session['id']}/messages?limit=100")
        assert isinstance(messages["items"], list)
        assert [one["seq"] for one in messages["items"]] == list(range(1, len(messages["items"]) + 1))
        await read(f"/sessions/{session['id']}/tool-executions")
        await read(f"/sessions/{session['id']}/statistics")
        for run_id in {one["run_id"] for one in messages["items"] if one["run_id"]}:
            await read(f"/runs/{run_id}")
    bots = await read("/bots")
    assert isinstance(bots["items"], list)
    documents = await read(f"/bots/{bots['items'][0]['id']}/documents?status=ready")
    assert isinstance(documents["items"], list)
    assert len(documents["items"]) == AMOUNT.documents
    found = await read("/search?q=harbour+OR+library&mode=text")
    assert "items" in found


async def test_documents_are_ready_and_read_again_the_same(
    seed: Seed, pool: asyncpg.Pool, storage: ObjectStorage, index: ScriptedIndex, tmp_path: Path
) -> None:
    seeded = await seed.run(ALL, "a password")

    assert seeded.documents is not None
    assert (seeded.documents.ready, seeded.documents.passages) == (AMOUNT.documents, AMOUNT.documents * AMOUNT.chunks)
    rows = await pool.fetch("SELECT id, storage_key, chunk_count, status FROM chat.documents")
    for row in rows:
        assert (row["status"], row["chunk_count"]) == ("ready", AMOUNT.chunks)
        await storage.download(row["storage_key"], tmp_path / "document")
        again = read_document(tmp_path / "document", DocumentFormat.MARKDOWN, 1_000_000)
        put = index.documents[UUID(str(row["id"]))]
        assert [(block.text, block.heading) for block in again] == [(block.text, block.heading) for block in put.blocks]
    assert await pool.fetchval("SELECT count(*) FROM chat.outbox WHERE topic = $1", INDEX_TOPIC) == 0


async def test_what_the_agent_does_not_take_is_left_to_the_worker(
    seed: Seed, pool: asyncpg.Pool, index: ScriptedIndex
) -> None:
    index.failures = [AgentUnavailable()]
    seeded = await seed.run(ALL, "a password")

    assert seeded.documents is not None
    assert (seeded.documents.ready, seeded.documents.waiting) == (0, AMOUNT.documents)
    assert seeded.documents.reason == AgentUnavailable.detail
    due = await pool.fetch(
        "SELECT subject_id, payload FROM chat.outbox WHERE topic = $1 AND available_at <= now()", INDEX_TOPIC
    )
    pending = await pool.fetch("SELECT id FROM chat.documents WHERE status = 'pending' AND version = 1")
    assert {row["subject_id"] for row in due} == {row["id"] for row in pending}
    assert [row["payload"] for row in due] == ['{"version": 1}'] * AMOUNT.documents


async def test_the_password_that_is_told_signs_in(seed: Seed, pool: asyncpg.Pool) -> None:
    await seed.run(ALL, "a password")
    stored = await pool.fetchval("SELECT password_hash FROM chat.users WHERE username = 'seed-ada'")
    hasher = Argon2PasswordHasher(at_a_time=1)
    try:
        assert (await hasher.check("a password", stored)).valid
    finally:
        hasher.close()


async def test_clearing_replaces_what_was_seeded_and_nothing_else(
    seed: Seed, pool: asyncpg.Pool, chat: ChatApi
) -> None:
    await seed.run(ALL, "a password")
    ann = await chat.person("ann")
    session, bot = await chat.session(ann), await chat.bot(ann)
    before = await pool.fetch("SELECT title, last_activity_at FROM chat.sessions ORDER BY last_activity_at, title")

    with pytest.raises(CannotSeed, match="--clear replaces them"):
        await seed.run(ALL, "another")
    only_documents = Wanted(Size.SMALL, clear=True, documents=True, conversations=False)
    await seed.run(only_documents, "another")
    assert await pool.fetchval("SELECT count(*) FROM chat.outbox WHERE topic = $1", BOT_PURGE) == AMOUNT.bots
    await seed.run(Wanted(Size.SMALL, clear=True, documents=False, conversations=True), "another")

    after = await pool.fetch("SELECT title, last_activity_at FROM chat.sessions ORDER BY last_activity_at, title")
    assert after == before, "the same conversations again, and Ann's"
    for path in (f"/sessions/{session['id']}", f"/bots/{bot['id']}"):
        assert (await chat.client.get(f"/api/v1{path}", headers=ann.headers)).status_code == 200
    assert await pool.fetchval("SELECT count(*) FROM chat.users WHERE username LIKE 'seed-%'") == AMOUNT.people
    alive = await pool.fetchval("SELECT count(*) FROM chat.bots WHERE deleted_at IS NULL")
    assert alive == AMOUNT.bots + 1


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"COLLOQUY_ENVIRONMENT": "production"}, "this is production: nothing is seeded here"),
        ({}, "there is no database"),
        ({"COLLOQUY_DATABASE_URL": "postgresql+asyncpg://x:y@127.0.0.1:1/z"}, "the database does not answer"),
    ],
)
def test_where_it_cannot_it_says_so_in_a_line(environment: dict[str, str], said: str) -> None:
    keys = {"COLLOQUY_SECRET_KEY": "k" * 40, "COLLOQUY_SERVICE_KEY": "s" * 40}
    done = CliRunner().invoke(colloquy, ["seed"], env=keys | environment)
    assert done.exit_code == 1
    assert re.fullmatch(f"Error: {said}.*\n", done.output)


def test_one_only_is_not_both() -> None:
    done = CliRunner().invoke(colloquy, ["seed", "--documents-only", "--conversations-only"])
    assert done.exit_code == 2
