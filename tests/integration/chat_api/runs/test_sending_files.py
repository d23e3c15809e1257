"""Sending messages that name files: what is stored together, and what is refused as a whole."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from chat_api.kit.models import new_id
from tests.factories.attachments import attached, named
from tests.factories.chat import API, ChatApi, Json, Person, problem


@pytest.fixture
async def session(chat: ChatApi, ann: Person) -> Json:
    return await chat.session(ann)


async def links(chat: ChatApi) -> set[tuple[str, str]]:
    rows = await chat.rows("SELECT message_id, attachment_id FROM chat.message_attachments")
    return {(str(row["message_id"]), str(row["attachment_id"])) for row in rows}


async def counters(chat: ChatApi, session: Json) -> Any:
    [row] = await chat.rows(
        "SELECT last_seq, last_event_seq, message_count FROM chat.sessions WHERE id = $1", UUID(session["id"])
    )
    return tuple(row)


async def test_files_are_shown_in_the_order_in_which_they_are_named(chat: ChatApi, ann: Person, session: Json) -> None:
    files = [await attached(chat, ann, f"{number}.png") for number in range(10)]
    files = [*files[5:], *files[:5]]

    exchanged = await chat.said(ann, session, attachment_ids=[file["id"] for file in files])

    message = exchanged["message"]
    assert message["attachments"] == [named(file) for file in files]
    assert (await chat.history(ann, session))[0] == message
    assert await links(chat) == {(message["id"], file["id"]) for file in files}
    assert exchanged["reply"]["attachments"] == []


@pytest.mark.parametrize("policy", ["always", "never"])
async def test_events_and_numbers_are_as_without(chat: ChatApi, ann: Person, policy: str) -> None:
    plain, full = await chat.session(ann, reply_policy=policy), await chat.session(ann, reply_policy=policy)
    file = await attached(chat, ann)

    await chat.said(ann, plain)
    await chat.said(ann, full, attachment_ids=[file["id"]])

    assert await counters(chat, full) == await counters(chat, plain)


async def test_a_stream_shows_them_from_the_first_event(chat: ChatApi, ann: Person, session: Json) -> None:
    file = await attached(chat, ann)

    events = await chat.stream(ann, session, attachment_ids=[file["id"]])

    assert events[0].data["attachments"] == [named(file)]
    assert events[-1].type == "run.completed"


@pytest.mark.parametrize("whose", ["another's", "nobody's", "seen, but another's"])
async def test_only_ones_own_files_can_be_sent(chat: ChatApi, ann: Person, bob: Person, whose: str) -> None:
    session = await chat.session(ann, reply_policy="never")
    own = await attached(chat, ann)
    other = {"id": str(new_id())} if whose == "nobody's" else await attached(chat, bob)
    if whose == "seen, but another's":
        await chat.join(session, bob)
        await chat.said(bob, session, attachment_ids=[other["id"]])
    before = await counters(chat, session), await links(chat)

    answer = await chat.send(ann, session, attachment_ids=[own["id"], other["id"]])

    assert problem(answer) == (404, "attachment-not-found")
    assert (await counters(chat, session), await links(chat)) == before


async def test_the_session_is_what_is_refused_first(chat: ChatApi, ann: Person, bob: Person, session: Json) -> None:
    his = await attached(chat, bob)
    assert problem(await chat.send(bob, session, attachment_ids=[his["id"]])) == (404, "session-not-found")

    await chat.client.post(f"{API}/sessions/{session['id']}/archive", headers=ann.headers)

    hers = await attached(chat, ann)
    assert problem(await chat.send(ann, session, attachment_ids=[hers["id"]])) == (409, "session-archived")


@pytest.mark.parametrize(
    "wrong",
    [["x"], [None], "x", None, {}, [str(UUID(int=1))] * 2, [str(UUID(int=number)) for number in range(11)]],
    ids=str,
)
async def test_what_is_no_list_of_ten_ids_is_refused(chat: ChatApi, ann: Person, session: Json, wrong: Any) -> None:
    assert problem(await chat.send(ann, session, attachment_ids=wrong)) == (422, "validation-failed")


async def test_an_empty_list_is_none(chat: ChatApi, ann: Person, session: Json) -> None:
    first = await chat.said(ann, session, client_id="c", attachment_ids=[])

    assert first["message"]["attachments"] == []
    assert (await chat.said(ann, session, client_id="c"))["message"] == first["message"]


async def test_the_same_client_id_gives_the_same_message(chat: ChatApi, ann: Person, session: Json) -> None:
    file, other = await attached(chat, ann), await attached(chat, ann)
    body: dict[str, Any] = {"client_id": "c", "attachment_ids": [file["id"]]}

    answers = await asyncio.gather(*(chat.send_async(ann, session, **body) for _ in range(4)))

    assert len({answer["message"]["id"] for answer in answers}) == 1
    assert {len(answer["message"]["attachments"]) for answer in answers} == {1}
    changes: list[dict[str, Any]] = [
        {"attachment_ids": [other["id"]]},
        {"attachment_ids": [file["id"], other["id"]]},
        {"attachment_ids": []},
        {"include_related_context": False},
    ]
    for changed in changes:
        answer = await chat.send(ann, session, **(body | changed))
        assert problem(answer) == (422, "idempotency-key-reused")
    await chat.run_ended(ann, answers[0]["run"]["id"])


async def test_a_replay_outlives_its_files(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    file = await attached(chat, ann)
    body: dict[str, Any] = {"client_id": "c", "attachment_ids": [file["id"]]}
    message = (await chat.said(ann, session, **body))["message"]
    await chat.client.delete(f"{API}/sessions/{session['id']}/messages/{message['id']}", headers=ann.headers)
    await chat.rows("DELETE FROM chat.attachments")

    assert (await chat.said(ann, session, **body))["message"]["id"] == message["id"]
    assert problem(await chat.send(ann, session, "Else", **body)) == (422, "idempotency-key-reused")
    assert problem(await chat.send(ann, session, attachment_ids=[file["id"]])) == (404, "attachment-not-found")


async def test_messages_with_files_at_once_have_one_run_at_a_time(chat: ChatApi, ann: Person, session: Json) -> None:
    files = [await attached(chat, ann) for _ in range(6)]

    sent = await asyncio.gather(*(chat.said(ann, session, attachment_ids=[file["id"]]) for file in files))

    assert {exchanged["run"]["status"] for exchanged in sent} == {"completed"}
    history = await chat.history(ann, session)
    assert sorted(message["seq"] for message in history) == list(range(1, 13))
    assert len(await links(chat)) == 6


@pytest.mark.parametrize("given", [True, False, None])
async def test_the_run_knows_whether_related_context_is_wanted(
    chat: ChatApi, ann: Person, session: Json, given: bool | None
) -> None:
    body: dict[str, Any] = {} if given is None else {"include_related_context": given}
    exchanged = await chat.said(ann, session, **body)
    again = await chat.client.post(
        f"{API}/sessions/{session['id']}/messages/{exchanged['message']['id']}/regenerate", headers=ann.headers
    )

    assert again.status_code == 201
    rows = await chat.rows("SELECT include_related_context AS wanted FROM chat.runs")
    assert [row["wanted"] for row in rows] == [given is not False] * 2


@pytest.mark.parametrize("wrong", [None, "true", 1, [], "x"], ids=str)
async def test_whether_it_is_wanted_is_true_or_false(chat: ChatApi, ann: Person, session: Json, wrong: Any) -> None:
    answer = await chat.send(ann, session, include_related_context=wrong)

    assert problem(answer) == (422, "validation-failed")
