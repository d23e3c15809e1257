"""What of the outbox is told next: no endpoint's backlog stands before what others are to be told.

An endpoint that is away for a day may have ten thousand events waiting, and all of them are older than what comes now.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.outbox import Due, Jobs
from chat_api.webhooks.models import DELIVER_TOPIC

_OF_ONE_ENDPOINT = 20
"""Entries in the queue at once. It is filled twice a second, and one endpoint is told a few at a time."""

_DUE = """
    SELECT id, attempt, created_at FROM (
        SELECT o.id, o.attempt, o.created_at, row_number() OVER (PARTITION BY d.endpoint_id ORDER BY o.id) AS place
        FROM chat.outbox o LEFT JOIN chat.webhook_deliveries d ON d.id = o.subject_id
        WHERE o.available_at <= now() AND o.topic = ANY($1)
    ) waiting
    WHERE place <= $3 ORDER BY place, id LIMIT $2
"""

_PUT_OFF = text("""
    UPDATE chat.outbox o SET available_at = now() + make_interval(secs => :seconds + random())
    FROM (
        SELECT w.id FROM chat.outbox w JOIN chat.webhook_deliveries d ON d.id = w.subject_id
        WHERE w.topic = :topic AND w.available_at <= now() AND d.endpoint_id = :endpoint_id
        FOR UPDATE OF w SKIP LOCKED
    ) waiting
    WHERE o.id = waiting.id
""")


class WebhookJobs(Jobs):
    """The outbox, a few entries of each endpoint at a time."""

    async def due(self, topics: Collection[str], limit: int) -> list[Due]:
        rows = await self._database.fetch_rows(_DUE, list(topics), limit, _OF_ONE_ENDPOINT)
        return [Due(row["id"], row["attempt"], row["created_at"]) for row in rows]


async def put_off(db: AsyncSession, endpoint_id: UUID, seconds: float) -> None:
    """Let all that is due for an endpoint wait, at once: one by one they would keep the workers busy for minutes.

    What somebody has begun is left to them.
    """
    await db.execute(_PUT_OFF, {"endpoint_id": endpoint_id, "seconds": seconds, "topic": DELIVER_TOPIC})
