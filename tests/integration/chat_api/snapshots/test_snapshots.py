"""Keeping a session, and making a new one of what was kept."""

from __future__ import annotations

import asyncio
from uuid import UUID

import httpx
import pytest

from chat_api.kit.turns import Turns
from chat_api.snapshots.errors import CopiesBusy
from tests.factories.attachments import attached
from tests.factories.chat import API, ChatApi, Json, Person, chat_api, problem
from tests.factories.transfers import content_of, exported_json
from tests.stores import Database


async def take(chat: ChatApi, person: Person, session: Json, **body: object) -> Json:
    answer = await chat.client.post(f"{API}/sessions/{session['id']}/snapshots", json=body, headers=person.headers)
    assert answer.status_code == 201, answer.text
    taken: Json = answer.json()
    return taken


async def restored(chat: ChatApi, person: Person, snapshot: Json) -> Json:
    answer = await restore(chat, person, snapshot)
    assert answer.status_code == 201, answer.text
    session: Json = answer.json()
    return session


async def restore(chat: ChatApi, person: Person, snapshot: Json) -> httpx.Response:
    return await chat.client.post(f"{API}/snapshots/{snapshot['id']}/restore", headers=person.headers)


async def texts(chat: ChatApi, person: Person, session: Json) -> list[str]:
    return [message["content"] for message in await chat.history(person, session)]


async def test_a_restored_session_has_the_same_content(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann)
    session = await chat.session(
        ann, title="Tides", tags=["sea"], bot_id=bot["id"], metadata={"a": 1}, settings={"max_tokens": 9}
    )
    file = await attached(chat, ann, "map.png")
    said = await chat.said(ann, session, "When is low tide?", attachment_ids=[file["id"]])
    path = f"{API}/sessions/{session['id']}/messages/{said['message']['id']}"
    await chat.client.put(f"{path}/reactions/%F0%9F%91%8D", headers=ann.headers)
    before = await exported_json(chat, ann, session["id"])

    snapshot = await take(chat, ann, session, title="Before")
    assert (snapshot["title"], snapshot["message_count"], snapshot["session_id"]) == ("Before", 2, session["id"])
    await chat.said(ann, session, "Something else")
    await chat.client.patch(path, json={"content": "Changed"}, headers=ann.headers)
    new = await restored(chat, ann, snapshot)

    after = await exported_json(chat, ann, new["id"])
    for document in (before, after):
        del document["session"]["created_at"]
    assert content_of(after) == content_of(before)
    assert new["id"] != session["id"]
    assert (new["title"], new["bot_id"], new["last_seq"], new["unread_count"]) == ("Tides", bot["id"], 2, 0)
    assert not {message["id"] for message in after["messages"]} & {message["id"] for message in before["messages"]}
    assert not await chat.rows("SELECT 1 FROM chat.runs WHERE session_id = $1", UUID(new["id"]))
    assert (await chat.said(ann, new, "Go on"))["message"]["seq"] == 3


async def test_clearing_the_history_leaves_the_snapshot(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session, "Hello")
    kept = await texts(chat, ann, session)
    snapshot = await take(chat, ann, session)
    await chat.client.delete(f"{API}/sessions/{session['id']}/messages", headers=ann.headers)
    await chat.said(ann, session, "Anew")

    new = await restored(chat, ann, snapshot)
    assert await texts(chat, ann, new) == kept
    later = await take(chat, ann, session)
    again = await restored(chat, ann, later)
    assert [message["seq"] for message in await chat.history(ann, again)] == [1, 2], "numbered without gaps"


async def test_deleting_the_session_deletes_its_snapshots(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session, "Hello")
    snapshot = await take(chat, ann, session)
    new = await restored(chat, ann, snapshot)
    await chat.client.delete(f"{API}/sessions/{session['id']}", headers=ann.headers)

    assert problem(await restore(chat, ann, snapshot)) == (404, "snapshot-not-found")
    assert not await chat.rows("SELECT 1 FROM chat.snapshot_messages")
    assert len(await chat.history(ann, new)) == 2


async def test_what_others_take_back_is_taken_out_of_snapshots(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.join(session, bob)
    his = (await chat.said(bob, session, "His words", metadata={"a": 1}))["message"]
    hers = (await chat.said(ann, session, "Her words"))["message"]
    snapshot = await take(chat, ann, session)
    for person, message in ((bob, his), (ann, hers)):
        answer = await chat.client.delete(
            f"{API}/sessions/{session['id']}/messages/{message['id']}", headers=person.headers
        )
        assert answer.status_code == 204

    new = await restored(chat, ann, snapshot)
    assert await texts(chat, ann, new) == ["ann added bob", "", "Her words"], "the owner's own is the owner's to keep"
    rows = await chat.rows("SELECT metadata, deleted_at FROM chat.snapshot_messages WHERE sender_id = $1", bob.id)
    assert [(row["metadata"], row["deleted_at"] is not None) for row in rows] == [({}, True)]


async def test_a_restored_room_is_the_owners_alone(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.join(session, bob)
    file = await attached(chat, bob, "his map.png")
    await chat.said(bob, session, "His words", attachment_ids=[file["id"]])
    new = await restored(chat, ann, await take(chat, ann, session))

    [_, his] = await chat.history(ann, new)
    assert (his["sender"]["username"], [one["id"] for one in his["attachments"]]) == ("bob", [file["id"]])
    assert [one["username"] for one in new["participants"]] == ["ann"]
    answer = await chat.client.get(f"{API}/sessions/{new['id']}", headers=bob.headers)
    assert problem(answer) == (404, "session-not-found")


async def test_files_that_are_gone_are_named_no_more(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    file, other = await attached(chat, ann, "map.png"), await attached(chat, ann, "other.png")
    await chat.said(ann, session, "See these", attachment_ids=[file["id"], other["id"]])
    snapshot = await take(chat, ann, session)
    await chat.client.delete(f"{API}/sessions/{session['id']}/messages", headers=ann.headers)
    await chat.rows("DELETE FROM chat.attachments WHERE id = $1", UUID(file["id"]))

    [message] = await chat.history(ann, await restored(chat, ann, snapshot))
    assert [one["id"] for one in message["attachments"]] == [other["id"]]
    assert await chat.rows("SELECT 1 FROM chat.message_attachments WHERE attachment_id = $1", UUID(other["id"]))


async def test_a_bot_that_may_not_be_used_any_more_is_left_out(chat: ChatApi, ann: Person, bob: Person) -> None:
    bot = await chat.bot(bob, visibility="shared")
    await chat.share(bob, bot, ann)
    session = await chat.session(ann, bot_id=bot["id"])
    snapshot = await take(chat, ann, session)
    await chat.client.delete(f"{API}/bots/{bot['id']}/shares/{ann.id}", headers=bob.headers)
    assert (await restored(chat, ann, snapshot))["bot_id"] is None


async def test_a_reply_that_is_being_written_is_kept_as_far_as_it_is(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session, "Hello")
    await chat.rows("UPDATE chat.messages SET status = 'streaming' WHERE role = 'assistant'")
    new = await restored(chat, ann, await take(chat, ann, session))
    assert [message["status"] for message in await chat.history(ann, new)] == ["complete", "cancelled"]


async def test_a_list_of_snapshots(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    taken = [await take(chat, ann, session, title=f"number {number}") for number in range(3)]
    path = f"{API}/sessions/{session['id']}/snapshots"
    first = (await chat.client.get(path, params={"limit": 2}, headers=ann.headers)).json()
    rest = (await chat.client.get(path, params={"cursor": first["next_cursor"]}, headers=ann.headers)).json()
    assert [*first["items"], *rest["items"]] == taken[::-1]
    assert rest["next_cursor"] is None

    gone = await chat.client.delete(f"{API}/snapshots/{taken[1]['id']}", headers=ann.headers)
    assert gone.status_code == 204
    left = (await chat.client.get(path, headers=ann.headers)).json()["items"]
    assert left == [taken[2], taken[0]]
    assert problem(await restore(chat, ann, taken[1])) == (404, "snapshot-not-found")


async def test_members_who_are_not_the_owner_may_not(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    snapshot = await take(chat, ann, session)
    await chat.join(session, bob)
    path = f"{API}/sessions/{session['id']}/snapshots"
    for answer in (
        await chat.client.post(path, json={}, headers=bob.headers),
        await chat.client.get(path, headers=bob.headers),
        await restore(chat, bob, snapshot),
        await chat.client.delete(f"{API}/snapshots/{snapshot['id']}", headers=bob.headers),
    ):
        assert problem(answer) == (403, "not-session-owner")
    carl = await chat.person("carl")
    assert problem(await restore(chat, carl, snapshot)) == (404, "snapshot-not-found")


async def test_there_may_be_so_many_of_so_many_messages(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, max_snapshots=2, max_session_copy_messages=2) as chat:
        ann = await chat.person("ann")
        session = await chat.session(ann, reply_policy="never")
        path = f"{API}/sessions/{session['id']}/snapshots"
        at_once = await asyncio.gather(*(chat.client.post(path, json={}, headers=ann.headers) for _ in range(4)))
        assert sorted(answer.status_code for answer in at_once) == [201, 201, 409, 409]
        refused = next(answer for answer in at_once if answer.status_code == 409)
        assert problem(refused) == (409, "too-many-snapshots")
        long = await chat.session(ann, reply_policy="never")
        for _ in range(3):
            await chat.said(ann, long, "Hello")
        answer = await chat.client.post(f"{API}/sessions/{long['id']}/snapshots", json={}, headers=ann.headers)
        assert problem(answer) == (409, "session-too-long")


@pytest.mark.parametrize("what", ["take", "restore"])
async def test_idempotency_keys(chat: ChatApi, ann: Person, what: str) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session, "Hello")
    snapshot = await take(chat, ann, session)
    path = f"/snapshots/{snapshot['id']}/restore" if what == "restore" else f"/sessions/{session['id']}/snapshots"
    body = None if what == "restore" else {"title": "Once"}
    headers = ann.headers | {"Idempotency-Key": "once"}
    first, again = [await chat.client.post(f"{API}{path}", json=body, headers=headers) for _ in range(2)]
    assert first.status_code == 201
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_copies_wait_for_their_turn_and_not_for_ever(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    snapshot = await take(chat, ann, session)
    kept, chat.app.state.copies = chat.app.state.copies, Turns(CopiesBusy, at_once=1, patience_seconds=0.05)
    path = f"{API}/sessions/{session['id']}/snapshots"
    async with chat.app.state.copies.turn():
        assert problem(await restore(chat, ann, snapshot)) == (503, "copies-busy")
        assert problem(await chat.client.post(path, json={}, headers=ann.headers)) == (503, "copies-busy")
        assert (await chat.client.get(path, headers=ann.headers)).status_code == 200
        assert chat.app.state.database.connections_in_use() == 0
    await restored(chat, ann, snapshot)
    chat.app.state.copies = kept


async def test_many_restores_at_once_are_all_whole(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session, "Hello")
    snapshot = await take(chat, ann, session)
    sessions = await asyncio.gather(*(restored(chat, ann, snapshot) for _ in range(8)))
    assert len({one["id"] for one in sessions}) == 8
    assert {one["message_count"] for one in sessions} == {2}
