"""Many conversations at once: stored together, told apart, all or none, and one import of a person at a time."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import event

from chat_api.kit.models import new_id
from chat_api.transfer.import_statements import ONE_AT_A_TIME
from chat_api.transfer.importer import Importer, ImportProgress
from chat_api.users.directory import UserDirectory
from tests.factories.chat import ChatApi, Json, Person, problem
from tests.factories.transfers import chatgpt, content_of, exported, exported_json, import_file, imported, node
from tests.stores import Database

MOMENT = "2026-01-31T09:30:00.000000Z"


def a_short_one(number: int) -> Json:
    """Of ChatGPT, with a question, its answer, and a question nobody sees."""
    return chatgpt(
        {
            "root": node(None, None),
            "asked": node(f"question {number}", "root"),
            "replied": node(f"answer {number}", "asked", "assistant"),
            "other": node("another answer", "asked", "assistant"),
        },
        "replied",
        title=f"Short {number}",
        conversation_id=f"short-{number}",
    )


def one_with_revisions(number: int, messages: int) -> Json:
    """Of ours. Each answer is to the message before it, and each third message had another text."""
    ids = [str(new_id()) for _ in range(messages)]
    return exported(
        *(
            {
                "id": ids[place],
                "role": "assistant" if place % 2 else "user",
                "content": f"{number}: {place}",
                "parent_id": ids[place - 1] if place % 2 else None,
                "created_at": MOMENT,
            }
            for place in range(messages)
        ),
        revisions=[
            {
                "message_id": ids[place], "revision": 1, "content": f"{number}: {place} before",
                "written_at": MOMENT, "replaced_at": MOMENT,
            }
            for place in range(0, messages, 3)
        ],
        id=f"own-{number}",
        title=f"Own {number}",
    )  # fmt: skip


async def test_each_conversation_keeps_what_is_its_own(chat: ChatApi, ann: Person) -> None:
    """Long ones begin in one batch and end in another, with short ones beside them."""
    file = [one_with_revisions(0, 7), a_short_one(1), one_with_revisions(2, 1_100), a_short_one(3)]
    file += [one_with_revisions(4, 4), a_short_one(5)]

    report = await imported(chat, ann, file)

    assert [told["outcome"] for told in report["conversations"]] == ["imported"] * 6
    assert [told["title"] for told in report["conversations"]][1:3] == ["Short 1", "Own 2"]
    for given, told in zip(file, report["conversations"], strict=True):
        stored = content_of(await exported_json(chat, ann, told["session_id"]))
        seqs = {message["seq"]: message["content"] for message in stored["messages"]}
        if "mapping" in given:
            number = given["title"].split()[1]
            assert list(seqs.values()) == [f"question {number}", f"answer {number}"]
            assert stored["messages"][1]["parent_id"] == 1
            assert told["left_out"]["other_branches"] == 1
            continue
        assert list(seqs.values()) == [message["content"] for message in given["messages"]]
        assert [message["parent_id"] for message in stored["messages"]] == [
            seq - 1 if seq % 2 == 0 else None for seq in range(1, len(seqs) + 1)
        ]
        assert [(seqs[one["message_id"]] + " before") for one in stored["revisions"]] == [
            one["content"] for one in given["revisions"]
        ]


async def test_the_number_of_statements_does_not_rise_with_the_conversations(chat: ChatApi, ann: Person) -> None:
    engine = chat.app.state.database.engine.sync_engine
    sent: list[str] = []

    def count(_: object, __: object, statement: str, *others: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    try:
        report = await imported(chat, ann, [a_short_one(number) for number in range(200)])
    finally:
        event.remove(engine, "before_cursor_execute", count)

    assert (report["imported"], report["messages"]) == (200, 400)
    assert len(sent) < 20, sent


async def test_a_list_of_sessions_has_the_order_of_the_file(chat: ChatApi, ann: Person) -> None:
    report = await imported(chat, ann, [a_short_one(number) for number in range(40)])
    listed = await chat.rows("SELECT id FROM chat.sessions ORDER BY last_activity_at DESC")
    assert [str(row["id"]) for row in listed] == [told["session_id"] for told in report["conversations"]]
    found = await chat.rows("SELECT DISTINCT session_id FROM chat.message_search WHERE seq > 0")
    assert len(found) == 40, "they can be found"
    [counted] = await chat.rows("SELECT sum(number) AS number FROM chat.analytics_deltas WHERE subject = 'message'")
    assert counted["number"] == 80, "and are counted"


class _Fails(ImportProgress):
    """In the second batch."""

    def __init__(self) -> None:
        self.batches = 0

    def stored(self, messages: int) -> None:
        self.batches += 1
        if self.batches == 2:
            raise ConnectionError("the database went away")


async def test_what_fails_between_two_batches_leaves_nothing(chat: ChatApi, ann: Person, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps([a_short_one(number) for number in range(400)]))
    importer = Importer(chat.clock, max_messages=10)

    async def attempt() -> None:
        async with importer.staged(path) as staging, chat.app.state.database.unit() as db:
            person = await UserDirectory(db).find(ann.id)
            assert person is not None
            await importer.claim(db, person)
            await importer.store(db, person, staging, _Fails())

    with pytest.raises(ConnectionError):
        await attempt()
    for table in ("sessions", "messages", "imports", "message_search", "analytics_deltas"):
        assert not await chat.rows(f"SELECT 1 FROM chat.{table}"), table


async def test_another_import_of_the_same_person_says_what_it_waits_for(
    chat: ChatApi, ann: Person, bob: Person, clean_database: Database
) -> None:
    chat.app.state.importer = Importer(chat.clock, max_messages=10, claim_seconds=0.05)
    file, key = [a_short_one(1)], {"Idempotency-Key": "once"}
    connection = await asyncpg.connect(clean_database.dsn(clean_database.api_url))
    try:
        async with connection.transaction():
            await connection.execute(ONE_AT_A_TIME.replace(":user_id", "$1"), ann.id)
            for headers in ({}, key):
                answer = await import_file(chat, ann, file, headers=headers)
                assert problem(answer) == (409, "import-in-progress")
                assert int(answer.headers["Retry-After"]) >= 1
            assert not await chat.rows("SELECT 1 FROM chat.sessions")
            assert (await imported(chat, bob, file))["imported"] == 1, "nobody else waits"
    finally:
        await connection.close()

    answer = await import_file(chat, ann, file, headers=key)
    assert (answer.status_code, answer.json()["imported"]) == (201, 1)
