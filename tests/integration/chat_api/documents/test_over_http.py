"""What only a real server shows: refusals in the middle of a body, and events that arrive as they happen."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from chat_api.config import ApiSettings
from chat_api.main import create_app
from shared.settings import Environment
from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.documents import HARBOUR, become, stored_files, uploaded
from tests.factories.served import served
from tests.fakes.agent import ScriptedAgent
from tests.stores import Database

LIMIT = 2_000_000


@pytest.fixture
def address(chat: ChatApi, clean_database: Database, tmp_path: Path) -> Iterator[str]:
    """A second process, as good as: another application over the same database and storage."""
    settings = ApiSettings(
        environment=Environment.TEST,
        database_url=SecretStr(clean_database.api_url),
        redis_url=None,
        data_dir=tmp_path,
        max_document_bytes=LIMIT,
        max_upload_bytes=10 * LIMIT,
        sse_keepalive_seconds=0.1,
    )
    with served(create_app(settings, agent_transport=ScriptedAgent())) as address:
        yield address


async def test_a_file_too_large_is_refused_while_it_is_still_sent(
    chat: ChatApi, ann: Person, bot: Json, address: str
) -> None:
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60, headers=ann.headers) as client:
        url = f"{API}/bots/{bot['id']}/documents"
        for _ in range(2):
            refused = await client.post(url, files={"files": ("large.txt", b"x" * (5 * LIMIT))})
            assert (refused.status_code, refused.json()["code"]) == (413, "document-too-large")
        taken = await client.post(url, files={"files": HARBOUR})

    assert taken.status_code == 202, taken.text
    assert len(stored_files(chat)) == 1


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(
    chat: ChatApi, ann: Person, bot: Json, address: str
) -> None:
    def go_away() -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        with socket.create_connection((parts.hostname, parts.port or 0), timeout=30) as connection:
            lines = [
                f"POST {API}/bots/{bot['id']}/documents HTTP/1.1",
                "Host: x",
                f"Authorization: {ann.headers['Authorization']}",
                "Content-Type: multipart/form-data; boundary=x",
                "Content-Length: 1000000",
                "",
                "--x",
                'Content-Disposition: form-data; name="files"; filename="a.txt"',
                "",
                "x" * 200_000,
            ]
            connection.sendall("\r\n".join(lines).encode())

    await asyncio.to_thread(go_away)
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60, headers=ann.headers) as client:
        for _ in range(20):
            assert (await client.get(f"{API}/bots/{bot['id']}/documents")).json()["items"] == []
            await asyncio.sleep(0.01)

    assert stored_files(chat) == {}


async def test_events_arrive_as_they_happen_whoever_writes_them(
    chat: ChatApi, ann: Person, bot: Json, address: str
) -> None:
    [document] = await uploaded(chat, ann, bot)
    states: list[str] = []
    async with (
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=60, headers=ann.headers) as client,
        client.stream("GET", f"{API}/documents/{document['id']}/events") as response,
    ):
        comments = 0
        async for line in response.aiter_lines():
            comments += line.startswith(":")
            states += [status for status in ("pending", "processing", "ready") if f'"status":"{status}"' in line]
            if states == ["pending"] and comments:
                await become(chat, document, "processing")
            if states[-1:] == ["processing"]:
                await become(chat, document, "ready")

    assert states == ["pending", "processing", "ready"]
