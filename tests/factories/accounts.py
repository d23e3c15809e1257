"""The chat API and people who use it, for tests of accounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from chat_api.auth.actors import Actor
from chat_api.auth.permissions import AdminActor, AgentInvoker, ChatReader, ChatWriter
from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from chat_api.main import create_app
from shared.settings import Environment
from tests.fakes.clock import MovableClock
from tests.fakes.password_hasher import RecordingHasher
from tests.stores import Database as StoredDatabase

PASSWORD = "correct horse battery staple"
API = "/api/v1"


_ONLY = APIRouter(prefix="/only")


@_ONLY.get("/read")
async def read(actor: ChatReader) -> dict[str, Any]:
    return _shown(actor)


@_ONLY.get("/write")
async def write(actor: ChatWriter) -> dict[str, Any]:
    return _shown(actor)


@_ONLY.get("/invoke")
async def invoke(actor: AgentInvoker) -> dict[str, Any]:
    return _shown(actor)


@_ONLY.get("/administer")
async def administer(actor: AdminActor) -> dict[str, Any]:
    return _shown(actor)


def make_app(settings: ApiSettings, clock: MovableClock, passwords: RecordingHasher) -> FastAPI:
    """The chat API with passwords that cost nothing, and one more route for each permission."""
    app = create_app(settings, clock=clock, passwords=passwords)
    app.router.routes.extend(_ONLY.routes)
    return app


def _shown(actor: Actor) -> dict[str, Any]:
    return {"user_id": str(actor.user_id), "api_key_id": actor.api_key_id and str(actor.api_key_id)}


@dataclass
class Person:
    """Somebody who registered and signed in."""

    id: UUID
    username: str
    email: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.access_token)


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


@dataclass
class AccountsApi:
    client: httpx.AsyncClient
    app: FastAPI
    settings: ApiSettings
    database: Database
    clock: MovableClock
    passwords: RecordingHasher

    async def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return await self.client.post(f"{API}/auth/token", data={"username": name, "password": password})

    async def person(self, username: str) -> Person:
        email = f"{username}@example.org"
        body = {"email": email, "username": username, "password": PASSWORD}
        registered = await self.client.post(f"{API}/auth/register", json=body)
        assert registered.status_code == 201, registered.text
        tokens = (await self.sign_in(username)).json()
        return Person(UUID(registered.json()["id"]), username, email, tokens["access_token"], tokens["refresh_token"])

    async def admin(self, username: str) -> Person:
        person = await self.person(username)
        await self.database.fetch_row("UPDATE chat.users SET is_admin = true WHERE id = $1", person.id)
        return person

    async def connections_held(self) -> int:
        """Connections that stay checked out. The application's own looks at the database come and go."""
        samples = []
        for _ in range(10):
            samples.append(self.database.connections_in_use())
            await asyncio.sleep(0.005)
        return min(samples)

    async def close_account(self, person: Person) -> None:
        await self.database.fetch_row("UPDATE chat.users SET is_active = false WHERE id = $1", person.id)

    async def api_key(self, person: Person, *scopes: str, **fields: Any) -> dict[str, Any]:
        body = {"name": "a key", "scopes": scopes, **fields}
        answer = await self.client.post(f"{API}/api-keys", json=body, headers=person.headers)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created


@asynccontextmanager
async def accounts_api(stored: StoredDatabase) -> AsyncIterator[AccountsApi]:
    settings = ApiSettings(environment=Environment.TEST, database_url=SecretStr(stored.api_url))
    clock, passwords = MovableClock(), RecordingHasher()
    app = make_app(settings, clock, passwords)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://colloquy.test") as client,
    ):
        yield AccountsApi(client, app, settings, app.state.database, clock, passwords)


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem answer."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]
