"""What people said up to a message, and what they were answered: the conversation that a model is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.contracts.chat import ChatImage

HISTORY = """
    WITH t AS (
        SELECT seq FROM chat.messages WHERE session_id = $1 AND id = $2 AND deleted_at IS NULL
    ), said AS (
        SELECT m.id, m.seq, m.content, m.attachments, u.username
        FROM t JOIN chat.messages m ON m.session_id = $1 AND m.seq <= t.seq
        LEFT JOIN chat.users u ON u.id = m.sender_id
        WHERE m.role = 'user' AND m.deleted_at IS NULL
        ORDER BY m.seq DESC LIMIT $3
    ), answered AS (
        SELECT DISTINCT ON (m.parent_id) m.parent_id, m.content
        FROM said JOIN chat.messages m ON m.session_id = $1 AND m.parent_id = said.id
        WHERE m.role = 'assistant' AND m.deleted_at IS NULL AND m.content <> ''
          AND m.status IN ('complete', 'cancelled') AND m.parent_id <> $2
        ORDER BY m.parent_id, m.seq DESC
    )
    SELECT said.content, said.attachments, said.username, answered.content AS answer
    FROM said LEFT JOIN answered ON answered.parent_id = said.id ORDER BY said.seq
"""
"""($1 session, $2 trigger, $3 messages) → what people said up to the trigger, each with its latest answer. No row when
the trigger was deleted.

An answer follows what it answers, not its own `seq`: messages sent while a run was active come before its
reply in the log, and would come between question and answer for the model.
"""

EARLIER = """(
        SELECT coalesce(json_agg(
            json_build_array(said.content, said.username, answered.content, said.attachments) ORDER BY said.seq
        ), '[]'::json)
        FROM (
            SELECT m.id, m.seq, m.content, m.attachments, u.username
            FROM chat.messages m LEFT JOIN chat.users u ON u.id = m.sender_id
            WHERE m.session_id = $1 AND m.role = 'user' AND m.deleted_at IS NULL
            ORDER BY m.seq DESC LIMIT $17::int - 1
        ) said LEFT JOIN LATERAL (
            SELECT m.content FROM chat.messages m
            WHERE m.session_id = $1 AND m.parent_id = said.id AND m.role = 'assistant' AND m.deleted_at IS NULL
              AND m.content <> '' AND m.status IN ('complete', 'cancelled')
            ORDER BY m.seq DESC LIMIT 1
        ) answered ON true
    )"""
"""The same within the statement that stores the trigger, which is the last of at most $17 messages and not among these:
an array of `[content, username, answer, attachments]`."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a person said, with its files, and the latest answer to it. `images` are what the model sees of them."""

    content: str
    username: str | None
    answer: str | None
    attachments: Sequence[dict[str, Any]] = ()
    images: Sequence[ChatImage] = ()


def earlier(document: bytes) -> list[Exchange]:
    """What is in an array of `EARLIER`."""
    return [Exchange(*item) for item in orjson.loads(document)]
