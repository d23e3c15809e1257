"""What people find of what was said: in which form, in which order, and never what is not theirs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from chat_api.search.backlog import SearchBacklog
from chat_api.search.statements import NEAR
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.fakes.agent import Gate

QUIET = {"reply_policy": "never", "title": "-"}


async def found(chat: ChatApi, person: Person, q: str, **query: Any) -> Json:
    answer = await chat.client.get(f"{API}/search", params={"q": q, **query}, headers=person.headers)
    assert answer.status_code == 200, answer.text
    page: Json = answer.json()
    return page


def shown(item: Json) -> str:
    return "".join(f"[{part['text']}]" if part["matched"] else part["text"] for part in item["snippet"])


async def texts(chat: ChatApi, person: Person, q: str, **query: Any) -> list[str]:
    return [shown(item) for item in (await found(chat, person, q, **query))["items"]]


async def many(chat: ChatApi, session: Json, sender: Person, count: int, content: str) -> None:
    """`content` is an expression of SQL over `n`, which counts from 1; the last is the newest."""
    await chat.rows(
        f"""
        WITH added AS (
            INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content, created_at)
            SELECT $1, s.last_seq + n, gen_random_uuid(), 'user', $2, {content}, now() - make_interval(secs => $3 - n)
            FROM chat.sessions s, generate_series(1, $3) n WHERE s.id = $1
        )
        UPDATE chat.sessions SET last_seq = last_seq + $3, message_count = message_count + $3, last_activity_at = now()
        WHERE id = $1
        """,
        UUID(session["id"]),
        sender.id,
        count,
    )


async def test_what_is_found_looks_like_this(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, title="The harbour", reply_policy="never")
    said = (await chat.said(ann, session, "What are\n the <b>harbour</b> fees?"))["message"]

    message, title = (await found(chat, ann, "harbours"))["items"]

    assert message == {
        "kind": "message",
        "session_id": session["id"],
        "session_title": "The harbour",
        "message_id": said["id"],
        "seq": 1,
        "role": "user",
        "sender": "ann",
        "created_at": said["created_at"],
        "score": None,
        "snippet": [
            {"text": "What are the <b>", "matched": False},
            {"text": "harbour", "matched": True},
            {"text": "</b> fees?", "matched": False},
        ],
    }
    assert (title["kind"], title["session_id"], shown(title)) == ("title", session["id"], "The [harbour]")
    assert [title[name] for name in ("message_id", "seq", "role", "sender")] == [None] * 4


FORMS: list[tuple[str, str, str | None]] = [
    ("the ships were running late", "ship run", "the [ships] were [running] late"),
    ("Die Häfen waren gestern nicht geöffnet", "hafen", "Die [Häfen] waren gestern nicht geöffnet"),
    ("les bateaux sont dans le port", "bateau", "les [bateaux] sont dans le port"),
    ("Какие сборы в портах?", "порт", "Какие сборы в [портах]?"),
    ("東京の港は十時", "港は", "東京の[港は]十時"),
    ("see docs/harbour_fees.md", "fees", "see docs/harbour_[fees].md"),
    ("write to port@example.org", "example", "write to port@[example].org"),
    ("it costs 3.14 euro", "3.14", "it costs [3].[14] euro"),
    ("the old harbour", "harb*", "the old [harbour]"),
    ("the old harbour", '"old harbour"', "the [old] [harbour]"),
    ("the harbour is old", '"old harbour"', None),
    ("the harbour is old", "harb", None),
    ("the harbour is old", "harbour -old", None),
    ("the harbour is old", "harbour young", None),
    ("civil war", "civil war", "[civil] [war]"),
    ("civil law", "civil war", None),
    ("the harbour", "the harbour", "the [harbour]"),
    ("the harbour", "the", None),
]


async def test_words_in_their_forms_phrases_and_beginnings(chat: ChatApi, ann: Person) -> None:
    for said, query, expected in FORMS:
        session = await chat.session(ann, **QUIET)
        await chat.said(ann, session, said)

        seen = await texts(chat, ann, query, session_id=session["id"])
        assert seen == ([] if expected is None else [expected]), query


HOSTILE = [
    "'", ":*", "((((", "a & | !b <->", "\\", "' OR true --", "(a|a)*$", "%_", "-", '"', "*", "e" * 500, "é'\\:*" * 90,
]  # fmt: skip
WRONG: list[dict[str, Any]] = [
    {"q": ""},
    {"q": "x" * 501},
    {"q": "x" * 10_240},
    {"role": "captain"},
    {"mode": "loud"},
    {"session_id": "1"},
    {"after": "yesterday"},
    {"before": "2026-01-01T00:00:00"},
    {"limit": 0},
    {"limit": 101},
    {"cursor": "nonsense"},
]


async def test_a_hostile_query_finds_nothing_and_breaks_nothing(chat: ChatApi, ann: Person) -> None:
    await chat.said(ann, await chat.session(ann, **QUIET), "nothing of the kind")

    for query in HOSTILE:
        assert await texts(chat, ann, query) == [], query


async def test_what_is_not_in_the_contract_is_refused(chat: ChatApi, ann: Person) -> None:
    for wrong in WRONG:
        answer = await chat.client.get(f"{API}/search", params={"q": "fees", **wrong}, headers=ann.headers)
        assert answer.status_code == 422, answer.text
    nul = await chat.client.get(f"{API}/search?q=a%00b", headers=ann.headers)
    assert problem(nul) == (400, "malformed-request")


async def test_what_is_written_changed_and_deleted_is_found_as_it_is_now(chat: ChatApi, ann: Person) -> None:
    session, gate = await chat.session(ann, title="first title"), Gate()
    path = f"{API}/sessions/{session['id']}"
    chat.agent.script = gate
    accepted = await chat.send_async(ann, session, "what about the harbour")
    await gate.arrival()
    reply = (await chat.run(ann, accepted["run"]["id"]))["reply_message_id"]

    assert await texts(chat, ann, "harbour") == ["what about the [harbour]"]
    gate.opened.set()
    await chat.run_ended(ann, accepted["run"]["id"])
    answered = next(item for item in await chat.history(ann, session) if item["id"] == reply)["content"]
    assert answered
    assert len(await texts(chat, ann, f'"{answered}"', role="assistant")) == 1

    message = f"{path}/messages/{accepted['message']['id']}"
    await chat.client.patch(message, json={"content": "what about the oak"}, headers=ann.headers)
    assert await texts(chat, ann, "harbour", role="user") == []
    assert await texts(chat, ann, "oak") == ["what about the [oak]"]

    await chat.client.patch(path, json={"title": "second title"}, headers=ann.headers)
    assert await texts(chat, ann, "title") == ["second [title]"]
    assert await texts(chat, ann, "first") == []

    await chat.client.delete(message, headers=ann.headers)
    assert await texts(chat, ann, "oak") == []

    await chat.client.delete(f"{path}/messages", headers=ann.headers)
    assert [row["seq"] for row in await chat.rows("SELECT seq FROM chat.message_search")] == [0]
    await chat.client.delete(path, headers=ann.headers)
    assert await chat.rows("SELECT seq FROM chat.message_search") == []


async def test_only_what_one_takes_part_in(chat: ChatApi, ann: Person, bob: Person) -> None:
    hers, room = await chat.session(ann, **QUIET), await chat.session(ann, title="harbour room", reply_policy="never")
    for session, text in ((hers, "harbour alone"), (room, "harbour together")):
        await chat.said(ann, session, text)

    assert await texts(chat, bob, "harbour") == []
    assert await texts(chat, bob, "harbour", session_id=hers["id"]) == []
    await chat.join(room, bob)
    seen = ["[harbour] together", "[harbour] room"]
    assert await texts(chat, bob, "harbour") == seen
    assert await texts(chat, bob, "harbour", session_id=room["id"]) == seen
    assert await texts(chat, bob, "harbour", session_id=hers["id"]) == []
    assert await texts(chat, ann, "harbour") == ["[harbour] together", "[harbour] alone", "[harbour] room"]
    await chat.client.delete(f"{API}/sessions/{room['id']}/participants/{bob.id}", headers=ann.headers)
    assert await texts(chat, bob, "harbour") == []


async def test_filters(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann)
    on_bot = await chat.session(ann, bot_id=bot["id"], **QUIET)
    other = await chat.session(ann, **QUIET)
    first = (await chat.said(ann, on_bot, "harbour one"))["message"]
    second = (await chat.said(ann, other, "harbour two"))["message"]
    await chat.session(ann, title="harbour three")

    assert await texts(chat, ann, "harbour", bot_id=bot["id"]) == ["[harbour] one"]
    assert await texts(chat, ann, "harbour", session_id=other["id"]) == ["[harbour] two"]
    assert await texts(chat, ann, "harbour", role="user") == ["[harbour] two", "[harbour] one"]
    assert await texts(chat, ann, "harbour", role="assistant") == []
    assert await texts(chat, ann, "harbour", before=second["created_at"], after=first["created_at"]) == [
        "[harbour] one"
    ]


@pytest.mark.parametrize("place", ["several sessions", "one session"])
async def test_pages_go_through_everything_once_near_and_far(
    chat: ChatApi, ann: Person, bob: Person, place: str
) -> None:
    """Seven matches lie behind more messages than a search looks at before it asks the index, and five before."""
    old, session = await chat.session(ann, **QUIET), await chat.session(ann, **QUIET)
    asks: list[tuple[Person, Json]] = [(ann, {}), (bob, {})]
    if place == "one session":
        old, asks = session, [(ann, {"session_id": session["id"]})]
    else:
        await chat.join(old, bob)
        await chat.join(session, bob)
    await many(chat, old, ann, 7, "'harbour old ' || n")
    await chat.rows(
        "UPDATE chat.sessions SET last_activity_at = now() - interval '1 day' WHERE id = $1", UUID(old["id"])
    )
    await chat.rows("DELETE FROM chat.message_search WHERE seq > 0")
    await chat.rows("UPDATE chat.messages SET created_at = created_at - interval '1 day'")
    await chat.rows("UPDATE chat.messages SET status = 'streaming' WHERE content LIKE 'harbour%'")
    await chat.rows("UPDATE chat.messages SET status = 'complete' WHERE content LIKE 'harbour%'")
    await many(chat, session, ann, NEAR + 200, "CASE WHEN n % 640 = 1 THEN 'harbour new ' ELSE 'other ' END || n")

    new = [f"[harbour] new {number}" for number in range(1, NEAR + 200, 640)][::-1]
    for asker, query in asks:
        pages: list[list[str]] = []
        cursor: dict[str, str] = {}
        while True:
            page = await found(chat, asker, "harbour -nothing", limit=5, **query, **cursor)
            pages.append([shown(item) for item in page["items"]])
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}

        expected = new + [f"[harbour] old {number}" for number in range(7, 0, -1)]
        assert [text for page in pages for text in page] == expected
        assert [len(page) for page in pages] == [5, 5, len(new) - 3]


async def test_what_was_there_before_is_indexed_bit_by_bit(chat: ChatApi, ann: Person) -> None:
    sessions = [await chat.session(ann, title=f"harbour {number}", reply_policy="never") for number in range(5)]
    for session in sessions:
        await chat.said(ann, session, "the harbour")
    gone = (await chat.said(ann, sessions[0], "the harbour, deleted"))["message"]
    await chat.client.delete(f"{API}/sessions/{sessions[0]['id']}/messages/{gone['id']}", headers=ann.headers)
    before = await found(chat, ann, "harbour")
    await chat.rows("DELETE FROM chat.message_search")
    await chat.rows("INSERT INTO chat.search_backlog VALUES ($1)", UUID(int=0))
    assert await texts(chat, ann, "harbour") == []

    backlog = SearchBacklog(chat.app.state.database, sessions_at_once=2)
    steps = 0
    while await backlog.step():
        steps += 1

    assert await found(chat, ann, "harbour") == before
    assert steps == 3
    assert not await backlog.step()
