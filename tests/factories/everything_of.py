"""A person of whom there is something in every table, and a search for what is left of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from chat_api.analytics.folding import fold
from chat_api.audit.service import AuditLog
from chat_api.clients.collections import Collections
from chat_api.kit.models import new_id
from chat_api.kit.outbox import Jobs
from chat_api.worker import INDEXING_QUEUE, job_runners
from shared.contracts.knowledge import CitationData
from tests.factories.attachments import attached
from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.documents import uploaded
from tests.factories.tool_calls import tool_call
from tests.fakes.agent import ScriptedAgent, citing
from tests.stores import Database

WORD = "xylotheque"
"""In everything that the person writes, and in nothing else. It has no shorter stem."""

PASSWORD = "correct horse battery staple"

IRREVERSIBLE = frozenset({"alembic_version"})
"""Tables in which nothing can be of a person."""


@dataclass
class Everything:
    """`needles` are ids, names and texts; `alone`, the session that is the person's only; `rooms` are with others."""

    person: Person
    friend: Person
    needles: list[str]
    alone: Json
    own_room: Json
    others_room: Json
    left_room: Json
    reader: Json
    others_message: str
    bot: Json
    documents: list[Json] = field(default_factory=list)


async def sign_in(chat: ChatApi, person: Person) -> Json:
    """With a password, so that there is a sign-in to end."""
    stored = await chat.app.state.passwords.hash(PASSWORD)
    await chat.rows("UPDATE chat.users SET password_hash = $2 WHERE id = $1", person.id, stored)
    answer = await chat.client.post(f"{API}/auth/token", data={"username": person.username, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: Json = answer.json()
    return tokens


async def done(answer: Any, *expected: int) -> Any:
    assert answer.status_code in (expected or (200, 201, 202, 204)), answer.text
    return answer.json() if answer.content else None


async def everything_of(chat: ChatApi, extraction: Any, collections: Collections) -> Everything:
    """Through the routes where there are some. `collections` is where documents are indexed."""
    await chat.rows("INSERT INTO chat.vector_model (name) VALUES ('local:quick')")
    person = await chat.person("ann-of-kirriemuir")
    friend = await chat.person("bob")
    client, hers, his = chat.client, person.headers, friend.headers
    tokens = await sign_in(chat, person)
    key = await done(
        await client.post(f"{API}/api-keys", json={"name": f"{WORD} key", "scopes": ["chat:read"]}, headers=hers)
    )
    await done(await client.post(f"{API}/auth/ws-ticket", headers=hers))
    hook = await done(
        await client.post(
            f"{API}/webhooks",
            json={"url": f"https://hooks.example.com/{WORD}", "description": WORD},
            headers=hers,
        )
    )

    bot = await chat.bot(person, name=f"{WORD} bot", system_prompt=WORD, description=WORD, visibility="shared")
    await chat.share(person, bot, friend)
    his_bot = await chat.bot(friend, name="Bob's", visibility="shared")
    await chat.share(friend, his_bot, person)
    documents = await uploaded(chat, person, bot, (f"{WORD}.md", f"# {WORD}\n\nAll about the {WORD}.".encode()))
    runner = job_runners(chat.settings, chat.app.state.database, chat.app.state.storage, extraction, collections)[
        INDEXING_QUEUE
    ]
    for entry in await Jobs(chat.app.state.database).due(runner.topics, 10):
        await runner.run(entry.id)
    [row] = await chat.rows("SELECT status FROM chat.documents WHERE id = $1", UUID(documents[0]["id"]))
    assert row["status"] == "ready"
    documents += await uploaded(chat, person, bot, (f"late {WORD}.md", f"Not indexed {WORD}.".encode()))
    file = await attached(chat, person, f"{WORD}.txt", WORD.encode())
    await attached(chat, person, f"unnamed {WORD}.txt", WORD.encode())

    alone = await done(
        await client.post(
            f"{API}/sessions",
            json={"title": WORD, "system_prompt": WORD, "tags": [WORD], "metadata": {"note": WORD}},
            headers=hers | {"Idempotency-Key": f"{WORD}-1"},
        )
    )
    said = await chat.said(person, alone, f"The {WORD}", attachment_ids=[file["id"]], metadata={"note": WORD})
    await done(
        await client.patch(
            f"{API}/sessions/{alone['id']}/messages/{said['message']['id']}",
            json={"content": f"A {WORD}"},
            headers=hers,
        )
    )
    own_room = await chat.session(person, title=WORD, metadata={"note": WORD}, reply_policy="always")
    await done(await client.patch(f"{API}/sessions/{own_room['id']}", json={"title": f"{WORD} 2"}, headers=hers))
    await chat.join(own_room, friend)
    await chat.said(person, own_room, f"Our {WORD}", client_id=WORD)
    others_room = await chat.session(friend, title="Bob's room", reply_policy="always")
    await done(
        await client.post(
            f"{API}/sessions/{others_room['id']}/participants",
            json={"user_id": str(person.id)},
            headers=his | {"Idempotency-Key": "let-her-in"},
        )
    )
    file_2 = await attached(chat, person, f"second {WORD}.txt", WORD.encode())
    hello = await chat.said(person, others_room, f"Your {WORD}", attachment_ids=[file_2["id"]])
    kept = await chat.said(friend, others_room, "I keep bees.")
    thumbs = f"{API}/sessions/{others_room['id']}/messages/{kept['message']['id']}/reactions/%F0%9F%91%8D"
    await done(await client.put(thumbs, headers=hers))
    await done(await client.put(thumbs, headers=his))
    await done(await client.put(f"{API}/sessions/{others_room['id']}/read", json={"seq": 3}, headers=hers))
    await done(
        await client.patch(
            f"{API}/sessions/{others_room['id']}/messages/{hello['message']['id']}",
            json={"content": f"Your old {WORD}"},
            headers=hers,
        )
    )
    decided = await tool_call(
        chat,
        UUID(others_room["id"]),
        UUID(kept["run"]["id"]),
        message_id=UUID(kept["reply"]["id"]),
        status="succeeded",
        result="Bees.",
        decided_by=person.id,
    )
    await chat.rows(
        "UPDATE chat.tool_executions SET reason = $2, model_arguments = arguments, requested_by = $3,"
        " arguments = jsonb_build_object('url', $2::text) WHERE id = $1",
        decided,
        WORD,
        person.id,
    )
    await tool_call(
        chat,
        UUID(others_room["id"]),
        UUID(kept["run"]["id"]),
        message_id=UUID(kept["reply"]["id"]),
        position=1,
        tool_name="search_messages",
        status="succeeded",
        result=f"She said: your {WORD}",
    )
    left_room = await chat.session(friend, title="Bob's other room", reply_policy="never")
    await chat.join(left_room, person)
    await chat.said(person, left_room, f"Farewell, {WORD}")
    await done(await client.delete(f"{API}/sessions/{left_room['id']}/participants/{person.id}", headers=hers))
    # A session of his alone, in which her document was quoted.
    agent: ScriptedAgent = chat.agent
    reader = await chat.session(friend, title="Bob reads", bot_id=bot["id"])
    quoted = CitationData(
        index=1,
        document_id=UUID(documents[0]["id"]),
        document_name=f"{WORD}.md",
        chunk_id=new_id(),
        page=None,
        score=0.5,
        snippet=f"All about the {WORD}.",
    )
    agent.script = citing(quoted)
    found = await chat.said(friend, reader, "What is it about?")
    assert len(found["reply"]["citations"]) == 1
    other = quoted.model_copy(update={"index": 2, "document_id": new_id(), "document_name": "b", "snippet": "Bees."})
    await chat.rows(
        "UPDATE chat.messages SET citations = citations || $2::jsonb WHERE id = $1",
        UUID(found["reply"]["id"]),
        [other.model_dump(mode="json")],
    )
    await tool_call(
        chat, UUID(reader["id"]), UUID(found["run"]["id"]), message_id=UUID(found["reply"]["id"]), status="succeeded"
    )
    await chat.rows(
        "UPDATE chat.tool_executions SET passages = $2::jsonb, result = $3 WHERE session_id = $1",
        UUID(reader["id"]),
        [{"document_id": documents[0]["id"], "text": WORD}],
        f"[1] {WORD}",
    )
    async with chat.app.state.database.unit() as db:
        audit = AuditLog(db, chat.clock)
        await audit.record(person.id, "user.changed", subject_type="user", subject_id=person.id, details={"by": WORD})
        await audit.record(None, "session.exported", subject_type="session", subject_id=UUID(alone["id"]))
    await _rows_without_a_route(chat, person, alone, own_room, others_room)
    needles = [
        str(person.id),
        person.username,
        f"{person.username}@example.org",
        WORD,
        alone["id"],
        file["id"],
        file_2["id"],
        documents[0]["id"],
        documents[1]["id"],
        key["id"],
        hook["id"],
        str(UUID(tokens["refresh_token"].split("_")[1])),
    ]
    return Everything(
        person, friend, needles, alone, own_room, others_room, left_room, reader, kept["message"]["id"], bot, documents
    )


async def _rows_without_a_route(chat: ChatApi, person: Person, alone: Json, *rooms: Json) -> None:
    """What the worker stores, and copies."""
    await chat.rows(
        "INSERT INTO chat.message_vectors (session_id, seq, model, vector)"
        " VALUES ($1, 1, 'local:quick', chat.as_vector('{1,0,0}'))",
        UUID(alone["id"]),
    )
    assert await fold(chat.app.state.database) > 0
    await chat.said(person, alone, f"And another {WORD}")  # is not folded yet
    for room in rooms:
        snapshot = new_id()
        await chat.rows(
            "INSERT INTO chat.snapshots (id, session_id, title, session) SELECT $1, id, title, '{}' FROM chat.sessions"
            " WHERE id = $2",
            snapshot,
            UUID(room["id"]),
        )
        await chat.rows(
            "INSERT INTO chat.snapshot_messages (snapshot_id, seq, message_id, parent_seq, role, sender_id, content,"
            " status, citations, attachments, reactions, tools_used, metadata, created_at)"
            " SELECT $1, m.seq, m.id, (SELECT p.seq FROM chat.messages p WHERE p.session_id = m.session_id"
            " AND p.id = m.parent_id), m.role, m.sender_id, m.content, m.status, m.citations, m.attachments,"
            " m.reactions, m.tools_used, m.metadata, m.created_at FROM chat.messages m WHERE m.session_id = $2",
            snapshot,
            UUID(room["id"]),
        )
    await chat.rows(
        "INSERT INTO chat.imports (user_id, source, source_id, content_hash, session_id) VALUES ($1, 'chatgpt', $2,"
        " '\\x00', $3)",
        person.id,
        WORD,
        UUID(alone["id"]),
    )


async def tables(database: Database) -> list[str]:
    """Every table of both schemas, as the database itself lists them."""
    connection = await asyncpg.connect(Database.dsn(database.superuser_url))
    try:
        rows = await connection.fetch(
            "SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables"
            " WHERE table_schema IN ('chat', 'agent') AND table_type = 'BASE TABLE' ORDER BY 1"
        )
    finally:
        await connection.close()
    return [row["name"] for row in rows if row["name"].partition(".")[2] not in IRREVERSIBLE]


async def found_in(database: Database, needles: list[str]) -> dict[str, list[str]]:
    """Table → which of the needles are in any column of it, in any case, also as bytes."""
    spelled = {needle: [needle.lower(), needle.replace("-", "").lower(), needle.encode().hex()] for needle in needles}
    found: dict[str, list[str]] = {}
    connection = await asyncpg.connect(Database.dsn(database.superuser_url))
    try:
        for table in await tables(database):
            rows = await connection.fetch(f"SELECT lower(CAST(t AS text)) AS line FROM {table} t")
            text = "\n".join(row["line"] for row in rows)
            hits = [needle for needle, forms in spelled.items() if any(form in text for form in forms)]
            if hits:
                found[table] = hits
    finally:
        await connection.close()
    return found


async def empty_tables(database: Database) -> set[str]:
    connection = await asyncpg.connect(Database.dsn(database.superuser_url))
    try:
        return {
            table
            for table in await tables(database)
            if not await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})")
        }
    finally:
        await connection.close()
