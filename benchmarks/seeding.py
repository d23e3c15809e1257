"""People, sessions and messages, put straight into the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from benchmarks.stack import Stack
from chat_api.auth.authenticator import ISSUER
from chat_api.kit.models import new_id
from shared.security import TokenKind, TokenSigner

CONTENT = (
    "Could you look at the notes of last week again? I think that the second part contradicts the summary, "
    "and I would like to know which of the two we should keep before we send it to the others."
)
"""What a person might write: 190 characters."""

MESSAGE_ROWS = """
    INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content, parent_id, provider, model,
        prompt_tokens, completion_tokens, total_tokens, latency_ms, time_to_first_token_ms, created_at)
    SELECT s.id, n, uuidv7(), CASE WHEN n % 2 = 1 THEN 'user' ELSE 'assistant' END,
        CASE WHEN n % 2 = 1 THEN s.owner_id END, $3 || n, NULL,
        CASE WHEN n % 2 = 0 THEN 'openai' END, CASE WHEN n % 2 = 0 THEN 'scripted' END,
        CASE WHEN n % 2 = 0 THEN 120 END, CASE WHEN n % 2 = 0 THEN 80 END, CASE WHEN n % 2 = 0 THEN 200 END,
        CASE WHEN n % 2 = 0 THEN 900 END, CASE WHEN n % 2 = 0 THEN 200 END, now() - interval '1 day' + n * interval '1s'
    FROM generate_series(1, $2::bigint) AS n, unnest($1::uuid[]) AS wanted (id)
    JOIN chat.sessions s ON s.id = wanted.id
    ORDER BY n
"""
"""($1 sessions, $2 messages of each, $3 text). In the order of `seq`, so the messages of one session lie apart, as
they do where many people write at once."""


@dataclass(frozen=True)
class Person:
    id: UUID
    token: str


def issue_token(stack: Stack, user_id: UUID) -> str:
    """An access token that outlives every benchmark."""
    signer = TokenSigner(
        stack.credentials.secret_key,
        kind=TokenKind.ACCESS,
        issuer=ISSUER,
        audience=ISSUER,
        lifetime=timedelta(hours=12),
    )
    return signer.mint(str(user_id))


async def add_people(connection: asyncpg.Connection, stack: Stack, count: int) -> list[Person]:
    ids = [new_id() for _ in range(count)]
    await connection.executemany(
        "INSERT INTO chat.users (id, email, username, password_hash) VALUES ($1, $2, $3, '!')",
        [(user_id, f"{user_id.hex}@example.org", f"person-{user_id.hex[-12:]}") for user_id in ids],
    )
    return [Person(user_id, issue_token(stack, user_id)) for user_id in ids]


async def add_sessions(
    connection: asyncpg.Connection, owners: Sequence[UUID], ids: Sequence[UUID], reply_policy: str
) -> None:
    """A session for each of `ids`, owned by the people in turn."""
    rows = [(session_id, owners[index % len(owners)]) for index, session_id in enumerate(ids)]
    await connection.executemany(
        f"INSERT INTO chat.sessions (id, owner_id, title, reply_policy) VALUES ($1, $2, 'Measured', '{reply_policy}')",
        rows,
    )
    await connection.executemany(
        "INSERT INTO chat.participants (session_id, user_id, role) VALUES ($1, $2, 'owner')", rows
    )


async def add_room(connection: asyncpg.Connection, session_id: UUID, people: Sequence[UUID]) -> None:
    """A session of several people alone, owned by the first."""
    await add_sessions(connection, people[:1], [session_id], "never")
    await connection.executemany(
        "INSERT INTO chat.participants (session_id, user_id, role) VALUES ($1, $2, 'member')",
        [(session_id, user_id) for user_id in people[1:]],
    )
    await connection.execute("UPDATE chat.sessions SET participant_count = $2 WHERE id = $1", session_id, len(people))


async def add_messages(connection: asyncpg.Connection, session_ids: Sequence[UUID], each: int) -> None:
    await connection.execute(MESSAGE_ROWS, list(session_ids), each, CONTENT)
    await connection.execute(
        "UPDATE chat.sessions SET last_seq = $2, message_count = $2 WHERE id = ANY($1)", list(session_ids), each
    )


def get_request(path: str, person: Person) -> bytes:
    return _head("GET", path, person) + b"\r\n"


def post_request(path: str, person: Person, body: bytes, *headers: str) -> bytes:
    lines = [f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return _head("POST", path, person) + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def _head(method: str, path: str, person: Person) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {person.token}\r\n"
        "Accept-Encoding: identity\r\n"
    ).encode()
