"""Many uploads to one bot wait for each other, and nobody else waits for them."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sqlalchemy import text

from chat_api.kit.db import Database
from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.documents import upload

UPLOADS = 40


async def test_uploads_that_wait_for_their_bot_leave_connections_to_others(
    chat: ChatApi, ann: Person, bot: Json
) -> None:
    assert chat.settings.db_pool_size + chat.settings.db_max_overflow < UPLOADS
    database: Database = chat.app.state.database
    async with database.unit() as db:
        await db.execute(text("SELECT 1 FROM chat.bots WHERE id = :id FOR UPDATE"), {"id": UUID(bot["id"])})
        uploads = [
            asyncio.create_task(upload(chat, ann, bot, (f"{at}.txt", f"{at}".encode()))) for at in range(UPLOADS)
        ]
        await asyncio.sleep(1)
        assert not any(task.done() for task in uploads)

        others = await asyncio.gather(*(chat.client.get(f"{API}/bots", headers=ann.headers) for _ in range(10)))

        assert [answer.status_code for answer in others] == [200] * 10
    assert {answer.status_code for answer in await asyncio.gather(*uploads)} == {202}
