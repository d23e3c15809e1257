"""The whole chat API in this process, people who use it, and what they say."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from chat_api.config import ApiSettings
from chat_api.kit.models import new_id
from chat_api.main import create_app
from chat_api.runs.engine import RunEngine
from tests.factories.compiled_statements import compiled_once
from tests.factories.operations import Operation, operations_of
from tests.factories.settings import api_settings
from tests.fakes.agent import ScriptedAgent
from tests.fakes.clock import MovableClock

API = "/api/v1"
Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One server-sent event as a client reads it."""

    id: int
    type: str
    data: Json


@dataclass(frozen=True)
class Person:
    id: UUID
    username: str
    headers: dict[str, str]


@dataclass
class ChatApi:
    """A running application. `person` makes users without the cost of a password hash."""

    app: FastAPI
    client: httpx.AsyncClient
    agent: ScriptedAgent
    clock: MovableClock
    settings: ApiSettings
    people: list[Person] = field(default_factory=list)

    @property
    def engine(self) -> RunEngine:
        engine: RunEngine = self.app.state.runs
        return engine

    @property
    def operations(self) -> list[Operation]:
        """Every operation of the document, which takes half a second to make and is the same for all."""
        return list(_operations())

    async def rows(self, statement: str, *args: Any) -> list[Any]:
        found: list[Any] = await self.app.state.database.fetch_rows(statement, *args)
        return found

    async def person(self, username: str | None = None) -> Person:
        user_id = new_id()
        name = username or f"person-{len(self.people) + 1}"
        await self.rows(
            "INSERT INTO chat.users (id, email, username, password_hash) VALUES ($1, $2, $3, 'none')",
            user_id,
            f"{name}@example.org",
            name,
        )
        token = self.app.state.authenticator.mint_access_token(user_id)
        person = Person(user_id, name, {"Authorization": f"Bearer {token}"})
        self.people.append(person)
        return person

    async def session(self, owner: Person, **fields: Any) -> Json:
        answer = await self.client.post(f"{API}/sessions", json=fields, headers=owner.headers)
        assert answer.status_code == 201, answer.text
        created: Json = answer.json()
        return created

    async def bot(self, owner: Person, **fields: Any) -> Json:
        answer = await self.client.post(f"{API}/bots", json={"name": "Guide", **fields}, headers=owner.headers)
        assert answer.status_code == 201, answer.text
        created: Json = answer.json()
        return created

    async def share(self, owner: Person, bot: Json, person: Person) -> None:
        answer = await self.client.put(f"{API}/bots/{bot['id']}/shares/{person.id}", headers=owner.headers)
        assert answer.status_code == 200, answer.text

    async def document_row(self, bot: Json, *, name: str = "harbour.md", deleted: bool = False) -> UUID:
        """A document as it is stored, without its bytes and without the agent."""
        document_id = new_id()
        await self.rows(
            "INSERT INTO chat.documents (id, bot_id, uploaded_by, name, content_type, size_bytes, sha256, storage_key,"
            " status, deleted_at) SELECT $1, id, owner_id, $3, 'text/markdown', 1, $4, $5, 'ready',"
            " CASE WHEN $6 THEN now() END FROM chat.bots WHERE id = $2",
            document_id,
            UUID(bot["id"]),
            name,
            document_id.bytes,
            f"documents/{document_id}",
            deleted,
        )
        return document_id

    async def join(self, session: Json, person: Person) -> None:
        """Have the session's owner make somebody a member."""
        [row] = await self.rows("SELECT owner_id FROM chat.sessions WHERE id = $1", UUID(session["id"]))
        [owner] = [one for one in self.people if one.id == row["owner_id"]]
        answer = await self.client.post(
            f"{API}/sessions/{session['id']}/participants", json={"user_id": str(person.id)}, headers=owner.headers
        )
        assert answer.status_code == 201, answer.text

    async def send(
        self,
        person: Person,
        session: Json,
        content: str = "Hello",
        *,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> httpx.Response:
        return await self.client.post(
            f"{API}/sessions/{session['id']}/messages",
            json={"content": content, **body},
            headers=person.headers | (headers or {}),
        )

    async def said(self, person: Person, session: Json, content: str = "Hello", **body: Any) -> Json:
        """Send and wait for the reply; the parsed answer."""
        answer = await self.send(person, session, content, **body)
        assert answer.status_code == 201, answer.text
        exchanged: Json = answer.json()
        return exchanged

    async def send_async(self, person: Person, session: Json, content: str = "Hello", **body: Any) -> Json:
        answer = await self.send(person, session, content, headers={"Prefer": "respond-async"}, **body)
        assert answer.status_code == 202, answer.text
        accepted: Json = answer.json()
        return accepted

    async def stream(self, person: Person, session: Json, content: str = "Hello", **body: Any) -> list[Event]:
        answer = await self.send(person, session, content, headers={"Accept": "text/event-stream"}, **body)
        assert answer.status_code == 200, answer.text
        return parse_events(answer.content)

    async def events(self, person: Person, run_id: str, after: int = 0) -> list[Event]:
        headers = person.headers | {"Last-Event-ID": str(after)}
        answer = await self.client.get(f"{API}/runs/{run_id}/events", headers=headers)
        assert answer.status_code == 200, answer.text
        return parse_events(answer.content)

    async def run(self, person: Person, run_id: str) -> Json:
        answer = await self.client.get(f"{API}/runs/{run_id}", headers=person.headers)
        assert answer.status_code == 200, answer.text
        run: Json = answer.json()
        return run

    async def run_ended(self, person: Person, run_id: str, *, within: float = 30) -> Json:
        async with asyncio.timeout(within):
            while True:
                run = await self.run(person, run_id)
                if run["status"] in ("completed", "failed", "cancelled"):
                    return run
                await asyncio.sleep(0.01)

    async def told(self, run_id: str, kind: str) -> None:
        """Wait until every process can read an event of this kind of a run, or what stands for one."""
        async with asyncio.timeout(30):
            while all(event.type != kind for event in await self.engine.streams.logged(UUID(run_id))):
                await asyncio.sleep(0.01)

    async def has_left(self, run_id: str) -> None:
        """Wait until nothing here has to do with the run any more, also what comes after it has ended or waits."""
        async with asyncio.timeout(30):
            while any(task.get_name() == f"run-{run_id}" for task in asyncio.all_tasks()):
                await asyncio.sleep(0.005)

    async def history(self, person: Person, session: Json, **query: Any) -> list[Json]:
        answer = await self.client.get(f"{API}/sessions/{session['id']}/messages", params=query, headers=person.headers)
        assert answer.status_code == 200, answer.text
        items: list[Json] = answer.json()["items"]
        return items


def parse_events(body: bytes) -> list[Event]:
    """The events of an SSE body, comments left out."""
    import json

    events = []
    for frame in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if line and not line.startswith(":"))
        if fields:
            events.append(Event(int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


def joined_text(events: list[Event]) -> str:
    """What the deltas add up to, each at its offset."""
    text = ""
    for event in events:
        if event.type == "message.delta":
            assert event.data["offset"] == len(text)
            text += event.data["text"]
    return text


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem answer."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


@functools.cache
def _operations() -> tuple[Operation, ...]:
    return tuple(operations_of(create_app(api_settings()).openapi()))


@asynccontextmanager
async def chat_api(
    database_url: str, redis_url: str | None, agent: ScriptedAgent | None = None, **settings: Any
) -> AsyncIterator[ChatApi]:
    """Start the application and stop it, as the server would.

    It waits long for stores that are slow because the machine is: else it does without them, or refuses, as designed.
    """
    agent = agent or ScriptedAgent()
    clock = MovableClock()
    loaded = api_settings(
        database_url=SecretStr(database_url),
        redis_url=None if redis_url is None else SecretStr(redis_url),
        **{"redis_command_seconds": 10, "db_pool_seconds": 30, "rate_limit_seconds": 10, **settings},
    )
    app = create_app(loaded, clock=clock, agent_transport=agent)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        with compiled_once(app.state.database.engine):
            async with httpx.AsyncClient(transport=transport, base_url="http://colloquy.test", timeout=30) as client:
                yield ChatApi(app, client, agent, clock, loaded)
