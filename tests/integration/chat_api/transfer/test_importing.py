"""Bringing conversations in: all of a file or nothing, for the importer alone, the same one once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from chat_api.kit.models import new_id
from chat_api.transfer.errors import ImportsBusy
from chat_api.transfer.importer import Importer, ImportProgress
from tests.factories.attachments import attached
from tests.factories.chat import API, ChatApi, Json, Person, chat_api, problem
from tests.factories.transfers import (
    a_tree,
    content_of,
    exported,
    exported_json,
    import_file,
    imported,
)
from tests.stores import Database

COUNTS = """
    SELECT (SELECT count(*) FROM chat.sessions) AS sessions, (SELECT count(*) FROM chat.messages) AS messages,
        (SELECT count(*) FROM chat.imports) AS imports, (SELECT count(*) FROM chat.runs) AS runs
"""


async def counts(chat: ChatApi) -> tuple[int, ...]:
    [row] = await chat.rows(COUNTS)
    return tuple(row)


async def a_rich_session(chat: ChatApi, person: Person) -> Json:
    """Everything that an export may hold but for files, which are not in it."""
    session = await chat.session(
        person, title="Tides", tags=["sea"], system_prompt="Be brief.", metadata={"a": [1, {"b": None}]},
        settings={"temperature": 0.5}, approval_mode="always", reply_policy="always",
    )  # fmt: skip
    said = await chat.said(person, session, "When is low tide? 😀\n\n=1+1", metadata={"from": "phone"})
    await chat.said(person, session, "And high tide?")
    path = f"{API}/sessions/{session['id']}/messages/{said['message']['id']}"
    for text in ("When is low tide today?", "When is low tide tomorrow?"):
        await chat.client.patch(path, json={"content": text}, headers=person.headers)
    await chat.client.put(f"{path}/reactions/%F0%9F%91%8D", headers=person.headers)
    again = await chat.client.post(f"{path}/regenerate", headers=person.headers)
    assert again.status_code in (201, 202), again.text
    run = again.json().get("run") or again.json()
    await chat.run_ended(person, run["id"])
    await chat.rows(
        "UPDATE chat.messages SET citations = $2, tools_used = '{calculator}', cost = 0.000123456 WHERE session_id = $1"
        " AND role = 'assistant'",
        UUID(session["id"]),
        [
            {
                "index": 1, "document_id": str(new_id()), "document_name": "tides.pdf", "chunk_id": str(new_id()),
                "page": 3, "score": 0.5, "snippet": "Low tide is at seven.",
            }
        ],
    )  # fmt: skip
    return session


async def test_export_import_export_is_the_same_in_an_empty_database(
    chat: ChatApi, ann: Person, new_database: Any, redis_url: str
) -> None:
    session = await a_rich_session(chat, ann)
    before = await exported_json(chat, ann, session["id"])
    assert len(before["messages"]) == 5
    assert before["revisions"]

    other: Database = new_database()
    async with chat_api(other.api_url, redis_url) as elsewhere:
        her = await elsewhere.person("ann")
        report = await imported(elsewhere, her, before)
        [told] = report["conversations"]
        after = await exported_json(elsewhere, her, told["session_id"])

        assert content_of(after) == content_of(before)
        assert (told["outcome"], told["messages"]) == ("imported", 5)
        assert not any(told["left_out"].values())
        assert (await counts(elsewhere))[3] == 0, "nothing is answered anew"


async def test_what_was_imported_can_be_gone_on_with(chat: ChatApi, ann: Person) -> None:
    report = await imported(chat, ann, [a_tree()])
    session = {"id": report["conversations"][0]["session_id"]}

    said = await chat.said(ann, session, "And high tide?")

    assert said["message"]["seq"] == 4
    shown = [message.content for message in chat.agent.requests[-1].messages]
    assert shown[:2] == ["When is low tide in Husum?", "At seven."]
    read = (await chat.client.get(f"{API}/sessions/{session['id']}", headers=ann.headers)).json()
    assert (read["message_count"], read["last_seq"], read["title"]) == (5, 5, "Tides")


async def test_the_history_of_an_import(chat: ChatApi, ann: Person) -> None:
    report = await imported(chat, ann, [a_tree()])
    [told] = report["conversations"]
    assert (report["imported"], report["messages"], told["source"]) == (1, 3, "chatgpt")
    assert (told["left_out"]["other_branches"], told["left_out"]["hidden"]) == (2, 1)

    asked, replied, thanked = await chat.history(ann, {"id": told["session_id"]})
    assert asked["sender"]["username"] == "ann"
    assert (replied["role"], replied["parent_id"], replied["sender"]) == ("assistant", asked["id"], None)
    assert thanked["created_at"] == "2023-11-14T22:13:20.250000Z"
    read = (await chat.client.get(f"{API}/sessions/{told['session_id']}", headers=ann.headers)).json()
    assert read["unread_count"] == 0
    assert read["created_at"].startswith("2023-11-14T")
    assert read["last_activity_at"] > "2024", "what was just imported is not idle"


async def test_the_same_file_again_is_the_same_session(chat: ChatApi, ann: Person, bob: Person) -> None:
    file = [a_tree(), exported({"content": "Hello"}, id="one"), exported({"content": "Hello"}, id="one")]
    first = await imported(chat, ann, file)
    before = await counts(chat)
    again = await imported(chat, ann, file)

    assert (first["imported"], first["already_there"]) == (2, 1)
    assert (again["imported"], again["already_there"], again["messages"]) == (0, 3, 0)
    ids = [one["session_id"] for one in first["conversations"]]
    assert ids == [one["session_id"] for one in again["conversations"]]
    assert await counts(chat) == before
    hers = {one["session_id"] for one in (await imported(chat, bob, file))["conversations"]}
    assert not hers & set(ids), "another importer's are another's"

    await chat.client.delete(f"{API}/sessions/{ids[0]}", headers=ann.headers)
    anew = await imported(chat, ann, file)
    assert (anew["imported"], anew["already_there"]) == (1, 2)


async def test_the_same_file_at_once_is_one_session(chat: ChatApi, ann: Person) -> None:
    reports = await asyncio.gather(*(imported(chat, ann, [a_tree()]) for _ in range(6)))
    assert sorted(report["imported"] for report in reports) == [0, 0, 0, 0, 0, 1]
    assert len({report["conversations"][0]["session_id"] for report in reports}) == 1


async def test_a_conversation_that_went_on_is_another(chat: ChatApi, ann: Person) -> None:
    tree = a_tree()
    await imported(chat, ann, [tree])
    report = await imported(chat, ann, [tree | {"current_node": "first-reply"}])
    assert report["imported"] == 1


async def test_all_of_it_or_nothing(chat: ChatApi, ann: Person) -> None:
    before = await counts(chat)
    for broken in (
        [a_tree(), exported({"role": "nobody"})],
        [a_tree(), {}],
        json.dumps([a_tree(), a_tree()]).encode()[:-20],
    ):
        assert problem(await import_file(chat, ann, broken)) == (422, "invalid-import")
    assert await counts(chat) == before


async def test_what_shows_at_the_very_end_of_a_file_refuses_all_of_it(chat: ChatApi, ann: Person) -> None:
    before = await counts(chat)
    moment = "2026-01-31T09:30:00Z"
    message_id = str(new_id())
    twice = {"message_id": message_id, "revision": 1, "content": "a", "written_at": moment, "replaced_at": moment}
    file = [a_tree(), exported({"id": message_id}, revisions=[twice, twice])]
    assert problem(await import_file(chat, ann, file)) == (422, "invalid-import")
    assert await counts(chat) == before


async def test_ids_of_others_in_a_file_open_nothing(chat: ChatApi, ann: Person, bob: Person) -> None:
    hers = await chat.session(ann, title="Hers", reply_policy="never")
    file = await attached(chat, ann, "her map.png")
    said = (await chat.said(ann, hers, "Her words", attachment_ids=[file["id"]]))["message"]
    bot = await chat.bot(ann)
    forged = exported(
        {
            "id": said["id"],
            "author": "ann",
            "attachments": [{name: file[name] for name in ("id", "name", "content_type", "size_bytes", "sha256")}],
            "reactions": {"👍": ["ann", "bob"]},
            "run_id": str(new_id()),
            "session_id": hers["id"],
            "sender": {"id": str(ann.id), "username": "ann"},
        },
        id=hers["id"],
        owner_id=str(ann.id),
        bot_id=bot["id"],
        related_session_id=hers["id"],
        participants=[{"user_id": str(ann.id), "username": "ann", "role": "owner"}],
    )
    before = await chat.history(ann, hers)
    report = await imported(chat, bob, forged)

    [told] = report["conversations"]
    assert told["session_id"] != hers["id"]
    assert (told["left_out"]["attachments"], told["left_out"]["reactions"]) == (1, 1)
    read = (await chat.client.get(f"{API}/sessions/{told['session_id']}", headers=bob.headers)).json()
    assert (read["owner_id"], read["bot_id"], read["related_session_id"]) == (str(bob.id), None, None)
    assert [one["username"] for one in read["participants"]] == ["bob"]
    [message] = await chat.history(bob, {"id": told["session_id"]})
    assert message["id"] != said["id"]
    assert (message["sender"]["username"], message["attachments"], message["run_id"]) == ("bob", [], None)
    assert message["reactions"] == {"👍": [str(bob.id)]}
    assert message["metadata"] == {"imported_author": "ann"}
    fetched = await chat.client.get(f"{API}/attachments/{file['id']}", headers=bob.headers)
    assert fetched.status_code == 404
    assert (await chat.client.get(f"{API}/sessions/{hers['id']}", headers=bob.headers)).status_code == 404
    assert await chat.history(ann, hers) == before
    listed = (await chat.client.get(f"{API}/sessions", headers=ann.headers)).json()["items"]
    assert [one["id"] for one in listed] == [hers["id"]]
    again = await exported_json(chat, bob, told["session_id"])
    assert (again["messages"][0]["author"], again["messages"][0]["metadata"]) == ("ann", {})


async def test_ones_own_files_are_named_again(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    file = await attached(chat, ann, "map.png")
    await chat.said(ann, session, "See this", attachment_ids=[file["id"]])
    document = await exported_json(chat, ann, session["id"])
    document["messages"][0]["attachments"][0]["name"] = "passwords.txt"
    report = await imported(chat, ann, document)
    [message] = await chat.history(ann, {"id": report["conversations"][0]["session_id"]})
    assert [(one["id"], one["name"]) for one in message["attachments"]] == [(file["id"], "map.png")]

    await chat.client.delete(f"{API}/sessions/{session['id']}", headers=ann.headers)
    rows = await chat.rows("SELECT 1 FROM chat.message_attachments WHERE attachment_id = $1", UUID(file["id"]))
    assert rows, "the copy names it as well, so it is not removed"
    other = document["messages"][0]["attachments"][0] | {"sha256": "0" * 64}
    told = await imported(chat, ann, exported({"attachments": [other]}))
    assert told["conversations"][0]["left_out"]["attachments"] == 1


async def test_a_bot_of_ones_own_answers_again(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann)
    report = await imported(chat, ann, exported({"content": "Hello"}, bot_id=bot["id"]))
    session_id = report["conversations"][0]["session_id"]
    read = (await chat.client.get(f"{API}/sessions/{session_id}", headers=ann.headers)).json()
    assert read["bot_id"] == bot["id"]


async def test_what_is_still_to_come_happened_now(chat: ChatApi, ann: Person) -> None:
    report = await imported(chat, ann, exported({"created_at": "9999-01-01T00:00:00Z"}))
    [message] = await chat.history(ann, {"id": report["conversations"][0]["session_id"]})
    assert message["created_at"] < "2200"


async def test_the_file_as_the_body_itself(chat: ChatApi, ann: Person) -> None:
    body = json.dumps(exported({"content": "Hello"})).encode()
    headers = ann.headers | {"Content-Type": "application/json; charset=utf-8"}
    answer = await chat.client.post(f"{API}/sessions/import", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert (await imported(chat, ann, body))["already_there"] == 1, "the same in a form"
    empty = await chat.client.post(f"{API}/sessions/import", content=b"", headers=headers)
    assert problem(empty) == (422, "invalid-import")
    other = await chat.client.post(
        f"{API}/sessions/import", content=body, headers=ann.headers | {"Content-Type": "text/plain"}
    )
    assert problem(other) == (415, "unsupported-media-type")


async def test_idempotency_keys(chat: ChatApi, ann: Person) -> None:
    key = {"Idempotency-Key": "once"}
    first = await import_file(chat, ann, [a_tree()], headers=key)
    again = await import_file(chat, ann, [a_tree()], headers=key)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await import_file(chat, ann, exported({"content": "Hello"}), headers=key)
    assert problem(other) == (422, "idempotency-key-reused")
    assert (await counts(chat))[0] == 1


async def test_a_file_may_be_so_large(clean_database: Database, redis_url: str, tmp_path: Path) -> None:
    async with chat_api(clean_database.api_url, redis_url, max_import_bytes=100_000, max_body_bytes=10_000) as chat:
        ann = await chat.person("ann")
        small = json.dumps(exported({"content": "x" * 50_000})).encode()
        assert (await import_file(chat, ann, small)).status_code == 201
        large = json.dumps(exported({"content": "x" * 150_000})).encode()
        assert problem(await import_file(chat, ann, large)) == (413, "import-too-large")
        huge = b"[" + b" " * 400_000
        assert problem(await import_file(chat, ann, huge)) == (413, "payload-too-large")

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(huge), 10_000):
                yield huge[start : start + 10_000]

        headers = ann.headers | {"Content-Type": "application/json"}
        unsaid = await chat.client.post(f"{API}/sessions/import", content=pieces(), headers=headers)
        assert unsaid.status_code == 413


async def test_many_messages_in_batches(chat: ChatApi, ann: Person) -> None:
    ids = [str(new_id()) for _ in range(1_200)]
    messages = [
        {
            "id": message_id,
            "role": "assistant" if number % 2 else "user",
            "content": f"message {number}",
            # Some answer the message just before, some one of an earlier batch.
            "parent_id": ids[number - 1 if number % 4 == 1 else 0] if number % 2 else None,
        }
        for number, message_id in enumerate(ids)
    ]
    report = await imported(chat, ann, exported(*messages))
    after = await exported_json(chat, ann, report["conversations"][0]["session_id"])
    given = {message["id"]: message["content"] for message in messages}
    stored = {message["id"]: message["content"] for message in after["messages"]}
    assert [message["content"] for message in after["messages"]] == [message["content"] for message in messages]
    assert [message["seq"] for message in after["messages"]] == list(range(1, 1_201))
    for before, now in zip(messages, after["messages"], strict=True):
        parent = before["parent_id"]
        assert (None if now["parent_id"] is None else stored[now["parent_id"]]) == (parent and given[str(parent)])


async def test_an_import_waits_for_its_turn_and_not_for_ever(chat: ChatApi) -> None:
    importer = Importer(chat.clock, max_messages=10, patience_seconds=0.05)
    async with importer.turn(), importer.turn():
        with pytest.raises(ImportsBusy):
            async with importer.turn():
                raise AssertionError("three at once")
    async with importer.turn():
        pass


async def test_clients_that_go_away_leave_no_file_open(chat: ChatApi, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(json.dumps([a_tree()] * 100).encode())
    importer = Importer(chat.clock, max_messages=10)
    is_read, goes_on = threading.Event(), threading.Event()

    class Held(ImportProgress):
        def read(self, size: int) -> None:
            is_read.set()
            goes_on.wait(60)

    async def work() -> None:
        async with importer.staged(path, Held()):
            raise AssertionError("nobody waits for this")

    task = asyncio.create_task(work())
    assert await asyncio.to_thread(is_read.wait, 60)
    task.cancel()
    await asyncio.sleep(0.02)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [file for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))]
