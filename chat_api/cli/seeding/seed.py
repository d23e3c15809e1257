"""`colloquy seed`: the order of things, and what a person at a terminal is told."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import click
import orjson

from chat_api.cli.progress import progress
from chat_api.cli.seeding import words
from chat_api.cli.seeding.conversations import Conversations, Ids, Price, Rows
from chat_api.cli.seeding.documents import DocumentSeeder, DocumentsSeeded, write_documents
from chat_api.cli.seeding.size import Amount, Size, amount_of
from chat_api.clients.collections import Collections, HttpCollections
from chat_api.config import ApiSettings
from chat_api.kit.storage import Storage, StorageUnavailable, open_storage
from chat_api.runs.prices import PriceTable
from shared.settings import Environment

_CONNECT_SECONDS = 5
_EMAIL = "seed-{name}@seed.example"
_USERNAME = "seed-{name}"
_PLANS = ("free", "free", "free", "pro")
_TYPES = ("owner", "student", "student", "staff")
_BATCH = 5_000

_ADD_PERSON = """
    INSERT INTO chat.users (id, email, username, password_hash, user_type, plan) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (lower(email)) DO UPDATE SET password_hash = excluded.password_hash, is_active = true
    RETURNING id
"""
_PEOPLE = "SELECT id FROM chat.users WHERE email = ANY ($1::text[])"
_HAS_SESSIONS = "SELECT EXISTS (SELECT FROM chat.sessions WHERE owner_id = ANY ($1::uuid[]))"
_HAS_BOTS = "SELECT EXISTS (SELECT FROM chat.bots WHERE owner_id = ANY ($1::uuid[]) AND deleted_at IS NULL)"
_CLEAR_SESSIONS = "DELETE FROM chat.sessions WHERE owner_id = ANY ($1::uuid[])"
# What a bot leaves behind is removed by the worker, as always.
_CLEAR_BOTS = """
    WITH gone AS (
        UPDATE chat.bots SET deleted_at = now() WHERE owner_id = ANY ($1::uuid[]) AND deleted_at IS NULL RETURNING id
    )
    INSERT INTO chat.outbox (id, topic, subject_id) SELECT gen_random_uuid(), 'bot.purge', id FROM gone
"""


class CannotSeed(Exception):
    """The message says why in a line."""


@dataclass(frozen=True)
class Wanted:
    size: Size
    clear: bool
    documents: bool
    conversations: bool


@dataclass(frozen=True)
class Seeded:
    """What there is more of. `documents` says itself how many of them still wait."""

    people: list[UUID]
    conversations: int = 0
    messages: int = 0
    documents: DocumentsSeeded | None = None


def seed(settings: ApiSettings, wanted: Wanted) -> None:
    """Seed for a person at a terminal. Raises `CannotSeed`."""
    if settings.environment is Environment.PRODUCTION:
        raise CannotSeed("this is production: nothing is seeded here")
    if settings.database_url is None:
        raise CannotSeed("there is no database: run `colloquy up` beside this, or set COLLOQUY_DATABASE_URL")
    address = _address(settings.database_url.get_secret_value())
    password = secrets.token_urlsafe(12)
    started = time.monotonic()
    try:
        seeded = asyncio.run(_run(settings, address, wanted, password))
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CannotSeed(f"the database says: {error}") from None
    except OSError as error:
        raise CannotSeed(f"the database does not answer ({type(error).__name__})") from None
    except KeyboardInterrupt:
        raise CannotSeed("stopped; what is there stays until `--clear`") from None
    click.echo(report(seeded, time.monotonic() - started))
    if seeded.documents is not None and seeded.documents.waiting:
        click.echo(left_waiting(seeded.documents, settings.agent_base_url), err=True)
    names = [_USERNAME.format(name=name) for name in words.PEOPLE[: len(seeded.people)]]
    click.echo(f"sign in as {names[0]} … {names[-1]} with the password {password}")


async def _run(settings: ApiSettings, address: str, wanted: Wanted, password: str) -> Seeded:
    collections = HttpCollections(settings)
    try:
        async with asyncpg.create_pool(address, min_size=1, max_size=3, timeout=_CONNECT_SECONDS) as pool:
            try:
                return await Seed(pool, open_storage(settings), collections, price_of(settings)).run(wanted, password)
            except StorageUnavailable as problem:
                raise CannotSeed(str(problem.detail)) from None
    finally:
        await collections.close()


def report(seeded: Seeded, seconds: float) -> str:
    parts = [_counted(len(seeded.people), "person", "people")]
    if seeded.conversations:
        conversations = _counted(seeded.conversations, "conversation", "conversations")
        parts.append(f"{conversations} with {_counted(seeded.messages, 'message', 'messages')}")
    if seeded.documents is not None:
        ready = seeded.documents
        documents = _counted(ready.ready, "document", "documents")
        passages = _counted(ready.passages, "passage", "passages")
        parts.append(f"{documents} with {passages} ({ready.embedded:,} had to be embedded)")
    return f"{', '.join(parts)}: seeded in {seconds:.2f} s"


def left_waiting(documents: DocumentsSeeded, agent_url: str) -> str:
    """What is not ready and why, and where the agent was looked for, if it was not there."""
    wait = _counted(documents.waiting, "document waits", "documents wait")
    told = f"{wait} for the worker: {documents.reason}"
    if not documents.is_agent_away:
        return told
    return (
        f"{told}\nThe agent was looked for at {agent_url}. Where it listens elsewhere, set COLLOQUY_AGENT_URL, or"
        " COLLOQUY_AGENT_PORT as for `colloquy up`."
    )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


class Seed:
    def __init__(self, pool: asyncpg.Pool, storage: Storage, collections: Collections, price: Price) -> None:
        self._pool = pool
        self._storage = storage
        self._collections = collections
        self._price = price
        # To the day, so that figures and texts of one day are the same however often they are made.
        self._now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    async def run(self, wanted: Wanted, password: str) -> Seeded:
        """Raises `CannotSeed`, `StorageUnavailable`, and what the database raises."""
        amount = amount_of(wanted.size)
        await self._make_room(wanted)
        people = await self._add_people(amount, password)
        seeded = Seeded(people)
        if wanted.conversations:
            rows = await self._add_conversations(amount, people)
            seeded = replace(seeded, conversations=len(rows.sessions), messages=len(rows.messages))
        if wanted.documents:
            seeded = replace(seeded, documents=await self._add_documents(amount, people))
        return seeded

    async def _make_room(self, wanted: Wanted) -> None:
        """Raises `CannotSeed` where there is something already that nobody wants cleared."""
        emails = [_EMAIL.format(name=name) for name in words.PEOPLE]
        everybody = [row["id"] for row in await self._pool.fetch(_PEOPLE, emails)]
        for is_wanted, what, has, clear in (
            (wanted.conversations, "conversations", _HAS_SESSIONS, _CLEAR_SESSIONS),
            (wanted.documents, "documents", _HAS_BOTS, _CLEAR_BOTS),
        ):
            if not is_wanted:
                continue
            if wanted.clear:
                await self._pool.execute(clear, everybody)
            elif await self._pool.fetchval(has, everybody):
                raise CannotSeed(f"there are seeded {what} already: --clear replaces them")

    async def _add_people(self, amount: Amount, password: str) -> list[UUID]:
        from chat_api.users.passwords import Argon2PasswordHasher

        hasher = Argon2PasswordHasher(at_a_time=1)
        try:
            # One for all of them: they have the same password.
            password_hash = await hasher.hash(password)
        finally:
            hasher.close()
        ids = Ids(random.Random("people"))  # noqa: S311 - nothing here is secret
        found = []
        for number, name in enumerate(words.PEOPLE[: amount.people]):
            found.append(
                await self._pool.fetchval(
                    _ADD_PERSON,
                    ids.at(self._now),
                    _EMAIL.format(name=name),
                    _USERNAME.format(name=name),
                    password_hash,
                    _TYPES[number % len(_TYPES)],
                    _PLANS[number % len(_PLANS)],
                )
            )
        return found

    async def _add_conversations(self, amount: Amount, people: Sequence[UUID]) -> Rows:
        chosen = random.Random("conversations")  # noqa: S311
        rows = Conversations(chosen, people, self._now, self._price).write(amount.conversations)
        await write_rows(self._pool, rows)
        return rows

    async def _add_documents(self, amount: Amount, people: Sequence[UUID]) -> DocumentsSeeded:
        # New ids each time: what was cleared a moment ago may not be gone everywhere yet.
        ids, now = Ids(random.SystemRandom()), datetime.now(UTC)
        seeder = DocumentSeeder(self._pool, self._storage, self._collections)
        bots = await seeder.add_bots(people, ids, amount.bots, now)
        documents = write_documents(random.Random("documents"), ids, bots, amount, now)  # noqa: S311
        with progress("passages", sum(len(one.blocks) for one in documents)) as bar:
            return await seeder.add(documents, bar)


async def write_rows(pool: asyncpg.Pool, rows: Rows) -> None:
    """All of it in one transaction, with a bar: the triggers of messages and runs take most of the time."""
    total = sum(len(table) for _, table in rows.tables())
    with progress("rows of conversations", total) as bar:
        async with pool.acquire() as connection, connection.transaction():
            for name, table in rows.tables():
                for start in range(0, len(table), _BATCH):
                    batch = table[start : start + _BATCH]
                    await connection.copy_records_to_table(
                        name,
                        schema_name="chat",
                        columns=list(batch[0]),
                        records=[[_value(value) for value in row.values()] for row in batch],
                    )
                    bar.update(len(batch))


def price_of(settings: ApiSettings) -> Price:
    prices = PriceTable(settings.prices)

    def price(provider: str, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        used = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        return prices.cost(provider, model, used)

    return price


def _address(url: str) -> str:
    """For asyncpg, which knows nothing of SQLAlchemy's drivers. (`kit.address.dsn` is 0.3 s of imports away.)"""
    return f"postgresql://{url.partition('://')[2]}"


def _value(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict) else value
