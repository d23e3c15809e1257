"""Documents of a bot, uploaded as a client does it, and what the worker would make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from tests.factories.chat import API, ChatApi, Json, Person

File = tuple[str, bytes]
"""A name and the content."""

HARBOUR: File = ("harbour.md", b"# Opening hours\n\nThe harbour closes at ten in the evening.\n")


async def upload(
    chat: ChatApi, person: Person, bot: Json, *files: File, headers: dict[str, str] | None = None
) -> httpx.Response:
    parts = [("files", file) for file in files or (HARBOUR,)]
    return await chat.client.post(
        f"{API}/bots/{bot['id']}/documents", files=parts, headers=person.headers | (headers or {})
    )


async def uploaded(chat: ChatApi, person: Person, bot: Json, *files: File) -> list[Json]:
    """Upload, and see it accepted; the documents."""
    answer = await upload(chat, person, bot, *files)
    assert answer.status_code == 202, answer.text
    items: list[Json] = answer.json()["items"]
    return items


async def become(chat: ChatApi, document: Json, status: str, **columns: Any) -> None:
    """What the worker writes."""
    names = ["status", *columns]
    changes = ", ".join(f"{name} = ${at + 2}" for at, name in enumerate(names))
    await chat.rows(
        f"UPDATE chat.documents SET {changes} WHERE id = $1", UUID(document["id"]), status, *columns.values()
    )


async def outbox(chat: ChatApi, document: Json) -> list[tuple[str, Any]]:
    """Topic and payload of the work that waits for a document, in its order."""
    rows = await chat.rows(
        "SELECT topic, payload FROM chat.outbox WHERE subject_id = $1 ORDER BY id", UUID(document["id"])
    )
    return [(row["topic"], row["payload"]) for row in rows]


def stored_files(chat: ChatApi) -> dict[str, bytes]:
    """Everything in the local storage, by key."""
    folder: Path = chat.settings.data_dir / "documents"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
