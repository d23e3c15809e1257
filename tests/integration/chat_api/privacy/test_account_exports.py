"""The archive of an account: a few at a time, and in bounded memory however large its rows are."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import zipfile
from uuid import UUID

from chat_api.kit.models import new_id
from chat_api.privacy.errors import ExportsBusy
from chat_api.privacy.export import AccountExports
from chat_api.privacy.export_statements import BYTES, SNAPSHOT_MESSAGES
from tests.factories.chat import API, ChatApi, Person


def exports(chat: ChatApi) -> AccountExports:
    return AccountExports(chat.app.state.database, chat.app.state.storage, chat.clock)


async def test_only_a_few_are_under_way_also_of_those_that_come_at_once(chat: ChatApi, ann: Person) -> None:
    people = [ann, ann, *[await chat.person(f"person-{number}") for number in range(3)]]
    all_of_them = exports(chat)
    opened = await asyncio.gather(*(all_of_them.open(person.id) for person in people), return_exceptions=True)
    assert sum(isinstance(one, ExportsBusy) for one in opened) == 3
    streams = [one for one in opened if not isinstance(one, BaseException)]
    assert len(streams) == 2
    assert b"".join([piece async for piece in streams[0]])
    again = await all_of_them.open(ann.id)
    del streams, opened, again  # nobody reads them
    gc.collect()
    for person in people[:1] + people[2:3]:
        assert await anext(await all_of_them.open(person.id))


async def test_large_copies_are_read_a_few_at_a_time(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    taken = await chat.client.post(f"{API}/sessions/{session['id']}/snapshots", json={}, headers=ann.headers)
    snapshot = UUID(taken.json()["id"])
    await chat.rows(
        """
        INSERT INTO chat.snapshot_messages (snapshot_id, seq, message_id, role, sender_id, content, status, citations,
            attachments, reactions, tools_used, metadata, created_at)
        SELECT $1, n, uuidv7(), 'user', $2, repeat('ü', 200000), 'complete', '[]', '[]', '{}', '{}', '{}', now()
        FROM generate_series(1, 12) AS n
        """,
        snapshot,
        ann.id,
    )
    database, after, seqs = chat.app.state.database, 0, []
    while rows := await database.fetch_rows(SNAPSHOT_MESSAGES, snapshot, after, ann.id):
        assert sum(len(row["document"]) for row in rows) < BYTES + 500_000
        seqs += [row["key"] for row in rows]
        after = seqs[-1]
    assert seqs == list(range(1, 13))


async def test_names_of_files_lead_nowhere(chat: ChatApi, ann: Person) -> None:
    """Whatever a row says: `..` and paths of any system stay names."""
    names = ["../../etc/passwd", "..", "/root/x", "a\\..\\b", "C:\\x", "ü" * 255]
    for name in names:
        await chat.rows(
            "INSERT INTO chat.attachments (id, owner_id, name, content_type, size_bytes, sha256, storage_key)"
            " VALUES ($1, $2, $3, 'text/plain', 1, '\\x00', gen_random_uuid()::text)",
            new_id(),
            ann.id,
            name,
        )
    answer = await chat.client.get(f"{API}/users/me/export", headers=ann.headers)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        missing = json.loads(archive.read("manifest.json"))["missing"]
    assert len(missing) == len(names)
    assert all(len(name.split("/")) == 3 and "\\" not in name for name in missing)
    assert not {"..", ".", ""} & {part for name in missing for part in name.split("/")}
