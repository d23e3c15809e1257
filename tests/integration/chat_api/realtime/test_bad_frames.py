"""Sockets that misbehave, at a real server: an `error` frame or the right close code, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from chat_api.config import ApiSettings
from chat_api.kit.models import new_id
from chat_api.main import create_app
from shared.settings import Environment
from tests.factories.served import served
from tests.fakes.agent import ScriptedAgent
from tests.stores import Database

API = "/api/v1"
OLD_ID = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"
OUR_PAGE = "https://colloquy.example"
Json = dict[str, Any]


@dataclass(frozen=True)
class Somebody:
    id: UUID
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Line:
    """A socket that somebody speaks on, frame by frame."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def tell(self, frame: str | bytes | Json) -> None:
        await self.socket.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def next(self, *kinds: str, within: float = 5) -> Json:
        """The next frame of one of these types; what else comes meanwhile is not looked at."""
        async with asyncio.timeout(within):
            while True:
                frame: Json = json.loads(await self.socket.recv())
                if frame["type"] in kinds:
                    return frame

    async def ask(self, frame: str | bytes | Json, *kinds: str) -> Json:
        await self.tell(frame)
        return await self.next(*kinds)

    async def closed(self, within: float = 5, said: list[Json] | None = None) -> int | None:
        """The code with which the server closes. What it says before is added to `said`."""
        said = [] if said is None else said
        async with asyncio.timeout(within):
            try:
                while True:
                    said.append(json.loads(await self.socket.recv()))
            except ConnectionClosed as end:
                return None if end.rcvd is None else end.rcvd.code


class Server:
    """The chat API behind a port, and people who use it."""

    def __init__(self, url: str, app: FastAPI, database: Database, http: httpx.AsyncClient) -> None:
        self.ws = url.replace("http", "ws", 1) + f"{API}/ws"
        self.http = http
        self._app = app
        self._database = database

    async def somebody(self) -> Somebody:
        user_id = new_id()
        await self.execute(
            "INSERT INTO chat.users (id, email, username, password_hash) VALUES ($1, $2, $3, 'none')",
            user_id,
            f"{user_id}@example.org",
            f"person-{user_id.hex[-12:]}",
        )
        return Somebody(user_id, self._app.state.authenticator.mint_access_token(user_id))

    async def session(self, owner: Somebody) -> str:
        answer = await self.http.post(f"{API}/sessions", json={"reply_policy": "never"}, headers=owner.headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def ticket(self, somebody: Somebody) -> str:
        answer = await self.http.post(f"{API}/auth/ws-ticket", headers=somebody.headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["ticket"])

    async def execute(self, statement: str, *args: object) -> None:
        connection = await asyncpg.connect(Database.dsn(self._database.owner_url), timeout=10)
        try:
            await connection.execute(statement, *args)
        finally:
            await connection.close()

    @asynccontextmanager
    async def line(
        self, somebody: Somebody | None = None, query: str = "", origin: str | None = None
    ) -> AsyncIterator[Line]:
        """A socket; of somebody, if they are named."""
        headers = {} if origin is None else {"Origin": origin}
        async with connect(
            self.ws + query, additional_headers=headers, compression=None, proxy=None, max_size=None, close_timeout=1
        ) as socket:
            line = Line(socket)
            if somebody is not None:
                await line.ask({"type": "authenticate", "token": somebody.token}, "ready")
            yield line

    @asynccontextmanager
    async def bystander(self) -> AsyncIterator[None]:
        """Somebody who minds their own business, and has to notice nothing of what happens in the block."""
        somebody = await self.somebody()
        session = await self.session(somebody)
        async with self.line(somebody) as line:
            await line.ask({"type": "subscribe", "session_id": session, "after_seq": 0}, "subscribed")
            yield
            started = time.monotonic()
            await line.tell({"type": "message.send", "session_id": session, "client_id": "a1", "content": "Hello"})
            told = [await line.next("ack", "message.created", "error") for _ in range(2)]
            assert {frame["type"] for frame in told} == {"ack", "message.created"}
            assert time.monotonic() - started < 10


@asynccontextmanager
async def serving(database: Database, redis_url: str, **settings: Any) -> AsyncIterator[Server]:
    loaded = ApiSettings(
        environment=Environment.TEST,
        database_url=SecretStr(database.api_url),
        redis_url=SecretStr(redis_url),
        cors_origins=[OUR_PAGE],
        **settings,
    )
    app = create_app(loaded, agent_transport=ScriptedAgent())
    with served(app) as url:
        async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
            yield Server(url, app, database, http)


@pytest.fixture
async def server(clean_database: Database, redis_url: str) -> AsyncIterator[Server]:
    async with serving(clean_database, redis_url, ws_authenticate_seconds=0.5) as server:
        yield server


async def test_what_cannot_be_understood_is_answered_with_an_error(server: Server) -> None:
    ann = await server.somebody()
    own = await server.session(ann)
    send = {"type": "message.send", "session_id": own, "client_id": "a1", "content": "Hello"}
    bad: list[tuple[str | bytes | Json, str]] = [
        ("", "malformed-frame"),
        ("{", "malformed-frame"),
        ("not JSON", "malformed-frame"),
        ('{"type":"ping"} {"type":"ping"}', "malformed-frame"),
        ("[" * 30_000, "malformed-frame"),
        (b'{"type":"ping"}', "malformed-frame"),
        (b"\xff\xfe\x00", "malformed-frame"),
        ("null", "validation-failed"),
        ("7", "validation-failed"),
        ("[]", "validation-failed"),
        ('"ping"', "validation-failed"),
        ({}, "validation-failed"),
        ({"type": None}, "validation-failed"),
        ({"type": "nothing"}, "validation-failed"),
        ({"type": "message.created", "session_id": own, "event_seq": 1, "data": {}}, "validation-failed"),
        ({"type": "ping", "more": 1}, "validation-failed"),
        ({"type": "subscribe"}, "validation-failed"),
        ({"type": "subscribe", "session_id": "me"}, "validation-failed"),
        ({"type": "subscribe", "session_id": own, "after_seq": -1}, "validation-failed"),
        ({"type": "subscribe", "session_id": own, "after_seq": 2**63}, "validation-failed"),
        ({"type": "subscribe", "session_id": own, "after_seq": "1; DROP TABLE"}, "validation-failed"),
        ({"type": "unsubscribe", "session_id": 7}, "validation-failed"),
        (send | {"content": ""}, "validation-failed"),
        (send | {"content": None}, "validation-failed"),
        (send | {"content": "\x00"}, "validation-failed"),
        (send | {"client_id": ""}, "validation-failed"),
        (send | {"client_id": "x" * 1000}, "validation-failed"),
        (send | {"role": "system"}, "validation-failed"),
        (send | {"metadata": {"x": "y" * 20_000}}, "validation-failed"),
        ({name: value for name, value in send.items() if name != "client_id"}, "validation-failed"),
        # Half of a surrogate pair: JSON can say it, UTF-8 cannot.
        (json.dumps(send).replace("Hello", r"\ud83d"), "malformed-frame"),
        ({"type": "typing", "session_id": own}, "validation-failed"),
        ({"type": "typing", "session_id": own, "active": "perhaps"}, "validation-failed"),
        ({"type": "read", "session_id": own, "seq": -1}, "validation-failed"),
        ({"type": "run.cancel", "run_id": "all"}, "validation-failed"),
        ({"type": "tool.decide", "execution_id": "all", "decision": "approve"}, "validation-failed"),
        ({"type": "tool.decide", "execution_id": OLD_ID}, "validation-failed"),
        ({"type": "tool.decide", "execution_id": OLD_ID, "decision": "perhaps"}, "validation-failed"),
        ({"type": "tool.decide", "execution_id": OLD_ID, "decision": "approve", "arguments": 1}, "validation-failed"),
        (
            {"type": "tool.decide", "execution_id": OLD_ID, "decision": "approve", "arguments": {"\x00": 1}},
            "validation-failed",
        ),
        ({"type": "authenticate", "token": ann.token}, "already-authenticated"),
        ({"type": "typing", "session_id": own, "active": True}, "not-subscribed"),
    ]
    async with server.bystander(), server.line(ann) as line:
        for number, (frame, code) in enumerate(bad):
            answer = await line.ask(frame, "error", "ack", "subscribed", "pong")
            assert answer["type"] == "error", (number, frame, answer)
            assert answer["problem"]["code"] == code, (number, frame, answer)
            assert {"type", "title", "status", "detail", "code", "request_id"} <= set(answer["problem"])
            # Within the limit of frames, and well again at once.
            await line.ask({"type": "ping"}, "pong")
        answer = await line.ask(send, "error", "ack")
        assert (answer["type"], answer["client_id"]) == ("ack", "a1")


async def test_an_error_says_which_frame_it_is_about(server: Server) -> None:
    async with server.line(await server.somebody()) as line:
        answer = await line.ask(
            {"type": "message.send", "session_id": OLD_ID, "client_id": "a1", "content": "Hello"}, "error"
        )
        assert answer["in_reply_to"]["type"] == "message.send"
        assert answer["in_reply_to"]["client_id"] == "a1"
        assert answer["in_reply_to"]["session_id"] == OLD_ID


async def test_sessions_of_others_are_not_there(server: Server) -> None:
    ann, bob = await server.somebody(), await server.somebody()
    hers = await server.session(ann)
    frames: list[tuple[Json, str]] = [
        ({"type": "subscribe"}, "session-not-found"),
        ({"type": "subscribe", "after_seq": 0}, "session-not-found"),
        ({"type": "message.send", "client_id": "a1", "content": "Hello"}, "session-not-found"),
        ({"type": "read", "seq": 1}, "session-not-found"),
        ({"type": "typing", "active": True}, "not-subscribed"),
    ]
    async with server.line(ann) as listening, server.line(bob) as line:
        await listening.ask({"type": "subscribe", "session_id": hers, "after_seq": 0}, "subscribed")
        for session in (hers, OLD_ID):
            for frame, code in frames:
                answer = await line.ask(frame | {"session_id": session}, "error", "ack", "subscribed")
                assert answer["type"] == "error", answer
                assert answer["problem"]["code"] == code, answer
        for frame in (
            {"type": "run.cancel", "run_id": OLD_ID},
            {"type": "tool.decide", "execution_id": OLD_ID, "decision": "approve"},
        ):
            answer = await line.ask(frame, "error")
            assert answer["problem"]["status"] == 404
        # She hears of her own words only, and he of nothing.
        await listening.tell({"type": "message.send", "session_id": hers, "client_id": "a2", "content": "Alone?"})
        created = await listening.next("message.created", "presence", "typing", "participant.joined")
        assert (created["type"], created["event_seq"]) == ("message.created", 1)
        answer = await line.ask({"type": "ping"}, "pong", "message.created", "presence", "typing")
        assert answer["type"] == "pong"


async def test_a_frame_that_is_too_big_ends_the_socket_with_1009(server: Server) -> None:
    ann = await server.somebody()
    async with server.bystander():
        for frame in ("x" * 65 * 1024, b"x" * 65 * 1024, json.dumps({"type": "ping"}) + " " * 65 * 1024):
            async with server.line(ann) as line:
                await line.tell(frame)
                assert await line.closed() == 1009


@pytest.mark.parametrize("per_second", [1000, 100_000])
async def test_a_flood_ends_with_4429(server: Server, per_second: int) -> None:
    """A thousand frames a second, and as many as the socket takes."""
    ann = await server.somebody()
    async with server.bystander(), server.line(ann) as line:
        flooding = asyncio.create_task(_flood(line, per_second))
        frames: list[Json] = []
        assert await line.closed(within=15, said=frames) == 4429
        sent = await flooding
        answered = sum(frame["type"] == "pong" for frame in frames)
        refused = [frame for frame in frames if frame["type"] == "error"]
        # The burst that is allowed was answered; of the rest as many as the rate allows.
        assert 200 <= answered <= 200 + 50 * 10
        assert 1 <= len(refused) <= sent - answered
        assert all(frame["problem"]["code"] == "too-many-frames" for frame in refused)
        assert all(frame["problem"]["status"] == 429 and frame["retry_after"] > 0 for frame in refused)
        # Nothing is held against the person.
        async with server.line(ann) as again:
            await again.ask({"type": "ping"}, "pong")


async def _flood(line: Line, per_second: int) -> int:
    """Send until the socket is closed; how many frames that were."""
    sent = 0
    started = time.monotonic()
    while True:
        try:
            await line.tell({"type": "ping"})
        except ConnectionClosed:
            return sent
        sent += 1
        await asyncio.sleep(max(0.0, started + sent / per_second - time.monotonic()))


async def test_without_a_good_credential_it_ends_with_4401(server: Server) -> None:
    ann = await server.somebody()
    ticket = await server.ticket(ann)
    async with server.bystander():
        async with server.line(query=f"?ticket={ticket}") as line:
            assert (await line.next("ready"))["user"]["id"] == str(ann.id)
        for query in (
            f"?ticket={ticket}",
            "?ticket=",
            "?ticket=made-up",
            f"?ticket={'x' * 4000}",
            f"?ticket={ann.token}",
        ):
            async with server.line(query=query) as line:
                assert await line.closed() == 4401, query
        expired = await server.ticket(ann)
        await server.execute("UPDATE chat.ws_tickets SET expires_at = now() - interval '1 ms'")
        async with server.line(query=f"?ticket={expired}") as line:
            assert await line.closed() == 4401
        for frame in (
            {"type": "authenticate", "token": "made-up"},
            {"type": "authenticate", "token": ann.token[:-2]},
            {"type": "authenticate"},
            {"type": "ping"},
            {"type": "subscribe", "session_id": OLD_ID},
            "not JSON",
            b"\x00",
        ):
            async with server.line() as line:
                await line.tell(frame)
                assert await line.closed() == 4401, frame
        async with server.line() as line:
            started = time.monotonic()
            assert await line.closed() == 4401
            assert 0.4 < time.monotonic() - started < 8


async def test_a_ticket_is_good_for_one_of_many_who_try_at_once(server: Server) -> None:
    ticket = await server.ticket(await server.somebody())

    async def attempt() -> str:
        async with server.line(query=f"?ticket={ticket}") as line:
            return str((await line.next("ready", "error"))["type"])

    assert sorted(await asyncio.gather(*(attempt() for _ in range(10)))) == ["error"] * 9 + ["ready"]


async def test_pages_of_other_origins_may_not_connect(server: Server) -> None:
    ann = await server.somebody()
    for origin in ("https://evil.example", f"{OUR_PAGE}.evil.example", "http://colloquy.example", "null", "nonsense"):
        ticket = await server.ticket(ann)
        async with server.bystander(), server.line(query=f"?ticket={ticket}", origin=origin) as line:
            assert await line.closed() == 4403, origin
        # Nobody used the ticket up.
        async with server.line(query=f"?ticket={ticket}", origin=OUR_PAGE) as line:
            await line.next("ready")


async def test_a_socket_for_a_session_of_others_ends_with_4403(server: Server) -> None:
    ann, bob = await server.somebody(), await server.somebody()
    hers = await server.session(ann)
    for session in (hers, OLD_ID, "me"):
        ticket = await server.ticket(bob)
        async with server.line(query=f"/sessions/{session}?ticket={ticket}") as line:
            assert await line.closed() == 4403, session
    async with server.line(query=f"/sessions/{hers}?ticket={await server.ticket(ann)}") as line:
        assert (await line.next("subscribed"))["session_id"] == hers
        answer = await line.ask({"type": "subscribe", "session_id": OLD_ID}, "error")
        assert answer["problem"]["code"] == "bound-to-session"


async def test_more_sockets_than_one_person_may_have(clean_database: Database, redis_url: str) -> None:
    async with serving(clean_database, redis_url, ws_sockets_per_user=2) as server:
        ann, bob = await server.somebody(), await server.somebody()
        async with server.line(ann), server.line(ann):
            async with server.line() as line:
                refused = await line.ask({"type": "authenticate", "token": ann.token}, "error", "ready")
                assert refused["problem"]["code"] == "too-many-sockets"
                assert await line.closed() == 4429
            async with server.line(bob):
                pass
        async with server.line(ann):
            pass
