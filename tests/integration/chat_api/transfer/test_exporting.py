"""Taking a session out: what is in it, for whom, and in how large pieces."""

from __future__ import annotations

import csv
import io
from typing import Any
from uuid import UUID

import pytest

from chat_api.kit.models import new_id
from chat_api.transfer.export import ExportCutShort, ExportScope, open_export
from chat_api.transfer.formats import CSV_COLUMNS, ExportFormat
from tests.factories.attachments import attached
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.tool_calls import tool_call
from tests.factories.transfers import export, exported, exported_json, imported

MANY = """
    INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content)
    SELECT s.id, n, md5(s.id::text || n)::uuid, 'user', s.owner_id, repeat($3, $4::int) || n
    FROM chat.sessions s, generate_series(1, $2::bigint) AS n WHERE s.id = $1
"""


async def filled(chat: ChatApi, person: Person, messages: int, text: str = "x", times: int = 10) -> Json:
    session = await chat.session(person)
    await chat.rows(MANY, UUID(session["id"]), messages, text, times)
    await chat.rows("UPDATE chat.sessions SET last_seq = $2 WHERE id = $1", UUID(session["id"]), messages)
    return session


async def test_json_has_everything(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(
        ann, title="Tides", tags=["sea"], system_prompt="Be brief.", settings={"max_tokens": 9}
    )
    await chat.join(session, bob)
    file = await attached(chat, ann, "map.png")
    said = await chat.said(ann, session, "@assistant when?", attachment_ids=[file["id"]], metadata={"a": 1})
    path = f"{API}/sessions/{session['id']}/messages/{said['message']['id']}"
    await chat.client.patch(path, json={"content": "@assistant when is low tide?"}, headers=ann.headers)
    await chat.client.put(f"{path}/reactions/%F0%9F%91%8D", headers=bob.headers)
    gone = await chat.said(bob, session, "A secret of mine")
    await chat.client.delete(f"{API}/sessions/{session['id']}/messages/{gone['message']['id']}", headers=bob.headers)

    answer = await export(chat, ann, session["id"])
    document = answer.json()

    assert answer.headers["content-type"] == "application/json"
    assert 'filename="Tides.json"' in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "no-store"
    assert (document["format"], document["version"]) == ("colloquy.session", 1)
    told = document["session"]
    assert (told["title"], told["tags"], told["settings"]) == ("Tides", ["sea"], {"max_tokens": 9})
    assert [one["username"] for one in told["participants"]] == ["ann", "bob"]
    joined, asked, replied = document["messages"]
    assert (joined["role"], joined["author"]) == ("system", None)
    assert (asked["author"], asked["content"]) == ("ann", "@assistant when is low tide?")
    assert asked["reactions"] == {"👍": ["bob"]}
    assert asked["attachments"] == [
        {name: file[name] for name in ("id", "name", "content_type", "size_bytes", "sha256")}
    ]
    assert (replied["role"], replied["parent_id"], replied["usage"]) == (
        "assistant",
        asked["id"],
        said["reply"]["usage"],
    )
    assert [(one["message_id"], one["content"]) for one in document["revisions"]] == [(asked["id"], "@assistant when?")]
    assert "secret" not in answer.text


async def test_markdown_and_csv_are_for_reading(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, title='A "b"/c')
    await chat.said(ann, session, '=HYPERLINK("http://x")')

    text = await export(chat, ann, session["id"], "markdown")
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert text.text.startswith('# A "b"/c\n')
    assert "\n## ann, " in text.text
    table = await export(chat, ann, session["id"], "csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    head, first, reply = csv.reader(io.StringIO(table.text, newline=""))
    assert tuple(head) == CSV_COLUMNS
    assert first[5] == '\'=HYPERLINK("http://x")'
    assert reply[2] == "assistant"


async def test_a_session_in_which_nothing_was_said(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    assert (await exported_json(chat, ann, session["id"]))["messages"] == []
    assert len((await export(chat, ann, session["id"], "csv")).text.splitlines()) == 1
    assert "##" not in (await export(chat, ann, session["id"], "markdown")).text


async def test_an_unknown_format_is_refused(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    assert problem(await export(chat, ann, session["id"], "pdf")) == (422, "validation-failed")


@pytest.mark.parametrize("kind", list(ExportFormat))
async def test_it_goes_in_batches_and_loses_nothing(chat: ChatApi, ann: Person, kind: ExportFormat) -> None:
    session = await filled(chat, ann, 1_203)
    answer = await export(chat, ann, session["id"], kind.value)
    if kind is ExportFormat.JSON:
        contents = [message["content"] for message in answer.json()["messages"]]
    elif kind is ExportFormat.CSV:
        contents = [row[5] for row in csv.reader(io.StringIO(answer.text, newline=""))][1:]
    else:
        contents = [line for line in answer.text.splitlines() if line.startswith("xxx")]
    assert contents == [f"{'x' * 10}{number}" for number in range(1, 1_204)]


async def test_a_piece_has_a_bounded_size(chat: ChatApi, ann: Person) -> None:
    session = await filled(chat, ann, 40, "ü", 50_000)
    database, clock = chat.app.state.database, chat.clock
    opened = await open_export(database, clock, ExportScope(UUID(session["id"]), ann.id))
    sizes = [len(piece) async for piece in opened.json()]
    assert sum(sizes) > 4_000_000
    assert max(sizes) < 1_500_000


async def test_no_connection_waits_for_a_reader(chat: ChatApi, ann: Person) -> None:
    session = await filled(chat, ann, 1_203)
    database = chat.app.state.database
    opened = await open_export(database, chat.clock, ExportScope(UUID(session["id"]), ann.id))
    async for _ in opened.json():
        assert database.connections_in_use() == 0


async def test_who_is_removed_meanwhile_gets_no_more(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await filled(chat, ann, 1_203)
    await chat.join(session, bob)
    for kind in ExportFormat:
        opened = await open_export(chat.app.state.database, chat.clock, ExportScope(UUID(session["id"]), bob.id))
        pieces = opened.pieces(kind)
        got = [await anext(pieces) for _ in range(3 if kind is ExportFormat.JSON else 2)]
        await chat.client.delete(f"{API}/sessions/{session['id']}/participants/{bob.id}", headers=bob.headers)
        with pytest.raises(ExportCutShort):
            got += [piece async for piece in pieces]
        assert b"x1203" not in b"".join(got)
        await chat.join(session, bob)


async def test_only_ones_own_messages_of_somebody_elses_session(chat: ChatApi, ann: Person, bob: Person) -> None:
    """For the archive of an account."""
    session = await chat.session(ann, title="Ann's room", reply_policy="never", system_prompt="Secret")
    await chat.join(session, bob)
    await chat.send(ann, session, "Hers")
    his = (await chat.said(bob, session, "His"))["message"]
    await chat.client.patch(
        f"{API}/sessions/{session['id']}/messages/{his['id']}", json={"content": "His own"}, headers=bob.headers
    )

    async def document() -> str:
        scope = ExportScope(UUID(session["id"]), None, author_id=bob.id)
        opened = await open_export(chat.app.state.database, chat.clock, scope)
        return b"".join([piece async for piece in opened.json()]).decode()

    text = await document()
    assert "Ann's room" in text
    assert "Hers" not in text
    assert "Secret" not in text
    assert '"His own"' in text
    assert '"His"' in text
    await chat.client.delete(f"{API}/sessions/{session['id']}/participants/{bob.id}", headers=bob.headers)
    assert "Ann's room" not in await document()


async def test_the_whole_session_as_one_document(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, title="Tides")
    said = await chat.said(ann, session, "Hello")
    call = await tool_call(chat, UUID(session["id"]), UUID(said["run"]["id"]))
    await chat.client.delete(f"{API}/sessions/{session['id']}/messages/{said['message']['id']}", headers=ann.headers)

    answer = await chat.client.get(f"{API}/sessions/{session['id']}/full", headers=ann.headers)
    document: dict[str, Any] = answer.json()

    read = await chat.client.get(f"{API}/sessions/{session['id']}", headers=ann.headers)
    assert document["session"] == read.json()
    assert document["messages"] == await chat.history(ann, session)
    assert document["messages"][0]["deleted_at"]
    assert [run["id"] for run in document["runs"]] == [said["run"]["id"]]
    assert [one["id"] for one in document["tool_executions"]] == [str(call)]


@pytest.mark.parametrize("path", ["export", "full"])
async def test_others_find_nothing(chat: ChatApi, ann: Person, bob: Person, path: str) -> None:
    session = await chat.session(ann)
    for session_id in (session["id"], str(new_id())):
        answer = await chat.client.get(f"{API}/sessions/{session_id}/{path}", headers=bob.headers)
        assert problem(answer) == (404, "session-not-found")


async def test_nobody_speaks_in_anothers_name_by_metadata(chat: ChatApi, ann: Person, bob: Person) -> None:
    """`imported_author` is of imports: in what is sent, and in copies of it, it says nothing."""
    session = await chat.session(ann, reply_policy="never")
    await chat.join(session, bob)
    await chat.said(bob, session, "I owe bob 1000", metadata={"imported_author": "ann", "of": "bob"})

    async def told(session_id: str) -> list[tuple[str | None, object]]:
        messages = (await exported_json(chat, ann, session_id))["messages"]
        return [(one["author"], one["metadata"]) for one in messages if one["role"] == "user"]

    assert await told(session["id"]) == [("bob", {"of": "bob"})]
    taken = await chat.client.post(f"{API}/sessions/{session['id']}/snapshots", json={}, headers=ann.headers)
    copy = await chat.client.post(f"{API}/snapshots/{taken.json()['id']}/restore", headers=ann.headers)
    assert await told(copy.json()["id"]) == [("bob", {"of": "bob"})]
    file = exported({"author": "bob", "metadata": {"imported_author": "ann"}}, {"metadata": {"imported_author": "ann"}})
    report = await imported(chat, bob, file)
    document = await exported_json(chat, bob, report["conversations"][0]["session_id"])
    assert [one["author"] for one in document["messages"]] == ["bob", "bob"]


async def test_a_number_that_could_not_be_brought_in_again_is_not_taken(chat: ChatApi, ann: Person) -> None:
    """PostgreSQL shows 1e20 as an integer of 21 digits."""
    for number in (1e20, -1e300, -(2**63)):
        answer = await chat.client.post(
            f"{API}/sessions", json={"metadata": {"a": [{"b": number}]}}, headers=ann.headers
        )
        assert problem(answer) == (422, "validation-failed")
    session = await chat.session(ann, metadata={"a": [1e18, 1 - 2**63, 1e-300, 0.1, True]})
    assert (await imported(chat, ann, await exported_json(chat, ann, session["id"])))["imported"] == 0
