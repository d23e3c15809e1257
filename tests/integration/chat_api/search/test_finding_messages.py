"""Messages found for tools: the right ones, the best first, and never what somebody may not read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import httpx

from chat_api.search.snippets import CHARACTERS
from chat_api.search.tool_statements import NEAR
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.fakes.agent import Gate

Search = Callable[..., Awaitable[httpx.Response]]

QUIET = {"reply_policy": "never"}


async def found(answer: httpx.Response) -> list[Json]:
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


async def texts(search: Search, person: Person, query: str, session: Json | None = None, limit: int = 20) -> list[str]:
    return [item["snippet"] for item in await found(await search(person, query, session, limit=limit))]


async def many_messages(chat: ChatApi, session: Json, sender: Person, count: int, content: str) -> None:
    """`content` is an expression of SQL over `n`, which counts from 1."""
    await chat.rows(
        f"""
        WITH added AS (
            INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content, created_at)
            SELECT $1, s.last_seq + n, gen_random_uuid(), 'user', $2, {content}, now() - make_interval(secs => $3 - n)
            FROM chat.sessions s, generate_series(1, $3) n WHERE s.id = $1
        )
        UPDATE chat.sessions SET last_seq = last_seq + $3, message_count = message_count + $3 WHERE id = $1
        """,
        UUID(session["id"]),
        sender.id,
        count,
    )


async def test_what_a_found_message_looks_like(chat: ChatApi, ann: Person, search: Search) -> None:
    session = await chat.session(ann, title="The port")
    said = await chat.said(ann, session, "Harbour\n fees are five euro.")

    [reply, message] = await found(await search(ann, "FEES harbour"))

    assert message == {
        "message_id": said["message"]["id"],
        "session_id": session["id"],
        "session_title": "The port",
        "seq": 1,
        "role": "user",
        "sender": "ann",
        "created_at": said["message"]["created_at"],
        "snippet": "Harbour fees are five euro.",
    }
    assert (reply["role"], reply["sender"], reply["message_id"]) == ("assistant", None, said["reply"]["id"])


async def test_a_rare_word_counts_more_than_common_ones(chat: ChatApi, ann: Person, search: Search) -> None:
    session = await chat.session(ann, **QUIET)
    common = [f"what did we say about the {number}" for number in range(12)]
    for text in ("Fees: five.", *common):
        await chat.said(ann, session, text)

    best, *others = await texts(search, ann, "what did we say about the fees")

    assert best == "Fees: five."
    assert others == common[::-1]


async def test_of_equals_the_newest_comes_first(chat: ChatApi, ann: Person, search: Search) -> None:
    session, other = await chat.session(ann, **QUIET), await chat.session(ann, **QUIET)
    for number, place in enumerate((session, other, session)):
        await chat.said(ann, place, f"fees {number}")

    assert await texts(search, ann, "fees") == ["fees 2", "fees 1", "fees 0"]
    assert await texts(search, ann, "fees", limit=2) == ["fees 2", "fees 1"]


async def test_a_word_is_found_where_it_begins_one(chat: ChatApi, ann: Person, search: Search) -> None:
    session = await chat.session(ann, **QUIET)
    for text in ("a party", "the (Artist)", "mid-art", "art", "東京の港は十時", "großes Ärgernis"):
        await chat.said(ann, session, text)

    assert await texts(search, ann, "art") == ["art", "mid-art", "the (Artist)"]
    assert await texts(search, ann, "港") == ["東京の港は十時"]
    assert await texts(search, ann, "ärger") == ["großes Ärgernis"]


SIGNS = ["'", '"', ":*", "%", "_", "\\", "(((", "a & | !b <->", "[[:alnum:]]", "$1", "x" * 400, "' OR true --", " \t"]


async def test_no_character_of_a_query_is_an_operator(chat: ChatApi, ann: Person, bob: Person, search: Search) -> None:
    his = await chat.session(bob, **QUIET)
    for query in SIGNS:
        session = await chat.session(ann, **QUIET)
        await chat.said(ann, session, "nothing of the kind")
        await chat.said(bob, his, f"his {query} zz")
        before = await texts(search, ann, query)

        await chat.said(ann, session, f"here: {query} zz")
        # Words are what can be looked for; signs alone are none.
        more = len(await texts(search, ann, query)) - len(before)
        assert more == any(character.isalnum() for character in query), query
    assert not [text for text in before if text.startswith("his")]


async def test_a_snippet_shows_the_match_and_what_is_around_it(chat: ChatApi, ann: Person, search: Search) -> None:
    session = await chat.session(ann, **QUIET)
    await chat.said(ann, session, "word " * 300 + "the Harbour closes " + "word " * 300)

    [text] = await texts(search, ann, "word harbour")

    assert "the Harbour closes" in text
    assert text.startswith("…word")
    assert text.endswith("word…")
    assert len(text) <= CHARACTERS + 2


async def test_what_is_far_inside_a_very_long_message_is_found_and_shown(
    chat: ChatApi, ann: Person, search: Search
) -> None:
    session = await chat.session(ann, **QUIET)
    await chat.said(ann, session, "é" * 30 + " word" * 15_000 + " the harbour closes" + " word" * 4_000)

    [text] = await texts(search, ann, "harbour")

    assert "the harbour closes" in text
    assert len(text) <= CHARACTERS + 2


async def test_deleted_edited_and_cleared_texts_are_not_found(chat: ChatApi, ann: Person, search: Search) -> None:
    session, cleared = await chat.session(ann, **QUIET), await chat.session(ann, **QUIET)
    deleted, edited = [await chat.said(ann, session, f"fees {what}") for what in ("deleted", "edited")]
    await chat.said(ann, cleared, "fees cleared")
    path = f"{API}/sessions/{session['id']}/messages"
    await chat.client.delete(f"{path}/{deleted['message']['id']}", headers=ann.headers)
    await chat.client.patch(f"{path}/{edited['message']['id']}", json={"content": "free"}, headers=ann.headers)
    await chat.client.delete(f"{API}/sessions/{cleared['id']}/messages", headers=ann.headers)

    assert await texts(search, ann, "fees deleted edited cleared") == []
    assert await texts(search, ann, "free") == ["free"]


async def test_a_strangers_messages_are_not_found(chat: ChatApi, ann: Person, bob: Person, search: Search) -> None:
    hers = await chat.session(ann, **QUIET)
    await chat.said(ann, hers, "fees of ann")

    assert await texts(search, bob, "fees") == []
    await chat.join(hers, bob)
    assert await texts(search, bob, "fees") == ["fees of ann"]
    await chat.client.delete(f"{API}/sessions/{hers['id']}/participants/{bob.id}", headers=ann.headers)
    assert await texts(search, bob, "fees") == []


async def test_in_a_room_only_what_everybody_there_may_read(
    chat: ChatApi, ann: Person, bob: Person, search: Search
) -> None:
    cat = await chat.person("cat")
    alone = await chat.session(ann, **QUIET)
    pair = await chat.session(ann, **QUIET)
    await chat.join(pair, bob)
    others = await chat.session(ann, **QUIET)
    await chat.join(others, cat)
    everybody = await chat.session(ann, **QUIET)
    for person in (bob, cat):
        await chat.join(everybody, person)
    his = await chat.session(bob, **QUIET)
    for name, session in {"alone": alone, "pair": pair, "others": others, "everybody": everybody}.items():
        await chat.said(ann, session, f"fees {name}")
    await chat.said(bob, his, "fees his")

    assert set(await texts(search, ann, "fees")) == {"fees alone", "fees pair", "fees others", "fees everybody"}
    assert set(await texts(search, ann, "fees", alone)) == {"fees alone", "fees pair", "fees others", "fees everybody"}
    assert set(await texts(search, ann, "fees", pair)) == {"fees pair", "fees everybody"}
    assert set(await texts(search, ann, "fees", everybody)) == {"fees everybody"}
    assert set(await texts(search, bob, "fees", pair)) == {"fees pair", "fees everybody"}
    assert problem(await search(bob, "fees", alone)) == (404, "session-not-found")
    assert problem(await search(bob, "fees", {"id": str(UUID(int=7))})) == (404, "session-not-found")


async def test_the_message_that_is_being_answered_is_not_its_own_answer(
    chat: ChatApi, ann: Person, search: Search
) -> None:
    session, gate = await chat.session(ann), Gate()
    chat.agent.script = gate
    accepted = await chat.send_async(ann, session, "find the harbour fees")
    await gate.arrival()

    assert await texts(search, ann, "harbour", session) == []
    assert len(await texts(search, ann, "harbour", await chat.session(ann))) == 1

    gate.opened.set()
    await chat.run_ended(ann, accepted["run"]["id"])
    assert len(await texts(search, ann, "harbour", session)) == 1


async def test_what_was_said_long_ago_is_found_among_much_that_was_said_since(
    chat: ChatApi, ann: Person, bob: Person, search: Search
) -> None:
    room = await chat.session(ann, **QUIET)
    await chat.join(room, bob)
    for session in (await chat.session(ann, **QUIET), room):
        await many_messages(chat, session, ann, NEAR + 500, "'fees number ' || n")
    old, shared = await chat.session(ann, **QUIET), await chat.session(ann, **QUIET)
    await chat.join(shared, bob)
    for session, text in ((old, "'forgotten fees'"), (shared, "'forgotten together'")):
        await many_messages(chat, session, ann, 1, text)
        await chat.rows(
            "UPDATE chat.sessions SET last_activity_at = now() - interval '1 year' WHERE id = $1", UUID(session["id"])
        )

    assert set(await texts(search, ann, "forgotten")) == {"forgotten fees", "forgotten together"}
    assert await texts(search, ann, "forgotten", room) == ["forgotten together"]
    for place in (None, room):
        [best, *_] = await texts(search, ann, "the harbour fees number 4321 of 2345", place)
        assert best == "fees number 2345"


async def test_only_the_agent_may_ask(chat: ChatApi, ann: Person) -> None:
    path, body = f"{API}/search/messages", {"user_id": str(ann.id), "query": "fees"}

    assert problem(await chat.client.post(path, json=body, headers=ann.headers)) == (401, "not-authenticated")
    assert problem(await chat.client.post(path, json=body)) == (401, "not-authenticated")


async def test_what_is_not_in_the_contract_is_refused(chat: ChatApi, ann: Person, search: Search) -> None:
    for wrong in (
        {"query": ""},
        {"query": "x" * 501},
        {"query": "a\x00b"},
        {"limit": 0},
        {"limit": 21},
        {"limit": "5"},
    ):
        assert problem(await search(ann, **{"query": "fees", **wrong})) == (422, "validation-failed"), wrong
    assert problem(await search(ann, "fees", x=1)) == (422, "validation-failed")
