"""What a model is shown comes with the send that starts its run, and is what a look of its own would find."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from chat_api.config import Plan
from chat_api.kit.models import new_id
from chat_api.runs.repository import Claim, Holder, NewMessage
from shared.problems import ProblemDocument
from tests.factories.attachments import attached
from tests.factories.chat import API, ChatApi, Json, Person
from tests.fakes.agent import failing, saying
from tests.stores import Database

_BROKEN = ProblemDocument(title="Broken", status=502, detail="x", code="model-unavailable")
_WAITS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def claimed(chat: ChatApi, person: Person, session: Json, content: str = "Now?", *, limit: int) -> Claim:
    """Send a message whose run nobody answers."""
    new = NewMessage(
        session_id=UUID(session["id"]),
        sender_id=person.id,
        message_id=new_id(),
        run_id=new_id(),
        reply_id=new_id(),
        content=content,
        client_id=None,
        request_hash=b"",
        metadata={},
        mentions_assistant=False,
    )
    stored = await chat.engine.repository.send(new, Holder("nobody", 600, limit), Plan())
    assert stored is not None
    claim = stored[1]
    assert claim is not None
    return claim


async def a_conversation(chat: ChatApi, ann: Person, bob: Person) -> Json:
    """With a file, two replies to a message, a reply that failed, and messages that were edited and deleted."""
    session = await chat.session(ann, reply_policy="always")
    await chat.join(session, bob)
    first = await chat.said(ann, session, "One")
    chat.agent.next_scripts = [saying("Another one.")]
    path = f"{API}/sessions/{session['id']}/messages"
    await chat.client.post(f"{path}/{first['message']['id']}/regenerate", headers=ann.headers)
    picture = await attached(chat, bob)
    await chat.said(bob, session, 'Two "quoted" \N{SNOWMAN}\\', attachment_ids=[picture["id"]])
    chat.agent.next_scripts = [failing(_BROKEN, "Th")]
    await chat.said(ann, session, "Three")
    gone = await chat.said(bob, session, "Four")
    changed = await chat.said(ann, session, "Fife")
    assert (await chat.client.delete(f"{path}/{gone['message']['id']}", headers=bob.headers)).status_code == 204
    edited = await chat.client.patch(
        f"{path}/{changed['message']['id']}", json={"content": "Five"}, headers=ann.headers
    )
    assert edited.status_code == 200
    return session


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_what_comes_with_the_send_is_what_is_found(chat: ChatApi, ann: Person, bob: Person, limit: int) -> None:
    session = await a_conversation(chat, ann, bob)
    claim = await claimed(chat, ann, session, limit=limit)

    found = await chat.engine.repository.history(UUID(session["id"]), claim.trigger_message_id, limit)
    assert claim.history == found
    assert [exchange.content for exchange in found][-2:] == ["Five", "Now?"][-limit:]
    assert len(found) == min(limit, 5)


async def test_a_run_that_waits_brings_nothing_along(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="always")
    held = await claimed(chat, ann, session, limit=50)
    waiting = await chat.send_async(ann, session, "And?")
    assert waiting["run"]["status"] == "queued"
    repository = chat.engine.repository
    assert await repository.release(held.lease)

    claim = await repository.claim(UUID(session["id"]), Holder("somebody", 600, 50), new_id())
    assert claim is not None
    assert claim.history is None


async def test_what_changed_while_the_send_waited_is_looked_at_anew(
    chat: ChatApi, ann: Person, clean_database: Database
) -> None:
    session = await chat.session(ann, reply_policy="always")
    said = await chat.said(ann, session, "Secret")
    connection = await asyncpg.connect(clean_database.dsn(clean_database.superuser_url))
    try:
        change = connection.transaction()
        await change.start()
        await connection.execute(
            "UPDATE chat.sessions SET last_event_seq = last_event_seq + 1 WHERE id = $1", UUID(session["id"])
        )
        await connection.execute(
            "UPDATE chat.messages SET content = '', deleted_at = now() WHERE session_id = $1 AND id = $2",
            UUID(session["id"]),
            UUID(said["message"]["id"]),
        )
        sending = asyncio.create_task(claimed(chat, ann, session, limit=50))
        async with asyncio.timeout(30):
            while not await chat.rows(_WAITS):
                await asyncio.sleep(0.01)
        await change.commit()
        claim = await sending
    finally:
        await connection.close()

    assert claim.history is None, "the statement began before it was deleted"
    found = await chat.engine.repository.history(UUID(session["id"]), claim.trigger_message_id, 50)
    assert [exchange.content for exchange in found] == ["Now?"]


async def test_a_session_that_shows_more_than_comes_along_is_looked_up(chat: ChatApi, ann: Person) -> None:
    limit = chat.settings.history_messages
    session = await chat.session(ann, reply_policy="always", settings={"chat_history_length": limit + 2})
    for number in range(limit // 2 + 2):
        await chat.said(ann, session, str(number))

    assert len(chat.agent.requests[-1].messages) == limit + 2
