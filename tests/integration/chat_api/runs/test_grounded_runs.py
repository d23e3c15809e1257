"""Runs of sessions on bots: what the agent is asked, what the reply stands on, and bots that are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.contracts.chat import ChatRequest, ErrorEvent
from shared.contracts.knowledge import CitationData, RetrievalOptions
from shared.problems import ProblemDocument
from tests.factories.chat import API, ChatApi, Event, Json, Person, chat_api
from tests.fakes.agent import Gate, citing, saying
from tests.stores import Database

BROKEN = ProblemDocument(title="Too fast", status=429, detail="Slow down.", code="model-rate-limited")


def citation(document_id: UUID, index: int = 1) -> CitationData:
    return CitationData(
        index=index,
        document_id=document_id,
        document_name="harbour.md",
        chunk_id=uuid4(),
        page=3,
        score=0.75,
        snippet="The harbour closes at ten.",
    )


def as_json(*citations: CitationData) -> list[Json]:
    return [one.model_dump(mode="json") for one in citations]


async def regenerate(chat: ChatApi, person: Person, session: Json, message_id: str) -> Json:
    path = f"{API}/sessions/{session['id']}/messages/{message_id}/regenerate"
    answer = await chat.client.post(path, headers=person.headers)
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    return body


async def change_bot(chat: ChatApi, person: Person, bot: Json, **fields: Any) -> None:
    answer = await chat.client.patch(f"{API}/bots/{bot['id']}", json=fields, headers=person.headers)
    assert answer.status_code == 200, answer.text


async def asked(chat: ChatApi, person: Person, session: Json) -> ChatRequest:
    """What the agent is asked for a message."""
    body = await chat.said(person, session)
    assert body["run"]["status"] == "completed", body["run"]
    return chat.agent.requests[-1]


async def test_without_a_bot_nothing_is_looked_up(chat: ChatApi, ann: Person) -> None:
    request = await asked(chat, ann, await chat.session(ann, system_prompt="Be brief."))
    assert (request.collections, request.system_prompt) == ([], "Be brief.")


@pytest.mark.parametrize("agent_type", ["rag", "react"])
async def test_the_agent_looks_into_the_bots_documents(chat: ChatApi, ann: Person, agent_type: str) -> None:
    retrieval = {"mode": "text", "top_k": 7, "min_score": 0.2}
    bot = await chat.bot(ann, configuration={"agent_type": agent_type, "retrieval": retrieval})
    await chat.document_row(bot)
    deleted = {await chat.document_row(bot, deleted=True) for _ in range(2)}
    await chat.document_row(await chat.bot(ann), deleted=True)
    request = await asked(chat, ann, await chat.session(ann, bot_id=bot["id"]))
    assert request.collections == [UUID(bot["id"])]
    assert request.retrieval.model_dump(mode="json", exclude={"exclude_documents"}) == retrieval
    assert set(request.retrieval.exclude_documents) == deleted


async def test_a_bot_that_only_chats_looks_nothing_up(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann, configuration={"agent_type": "chat"})
    await chat.document_row(bot)
    request = await asked(chat, ann, await chat.session(ann, bot_id=bot["id"]))
    assert (request.collections, request.retrieval) == ([], RetrievalOptions())


async def test_a_bot_without_documents_looks_nothing_up(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann)
    await chat.document_row(bot, deleted=True)
    request = await asked(chat, ann, await chat.session(ann, bot_id=bot["id"]))
    assert request.collections == []


async def test_too_many_documents_being_deleted_fail_the_run_rather_than_show_one(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann)
    await chat.document_row(bot)
    session = await chat.session(ann, bot_id=bot["id"])
    for count, code in ((1_000, None), (1, "documents-being-deleted")):
        await chat.rows(
            "INSERT INTO chat.documents (id, bot_id, uploaded_by, name, content_type, size_bytes, sha256, storage_key,"
            " deleted_at) SELECT gen_random_uuid(), $1, $2, 'x', 'text/plain', 1, '', 'x', now()"
            " FROM generate_series(1, $3::int)",
            UUID(bot["id"]),
            ann.id,
            count,
        )
        run = (await chat.said(ann, session))["run"]
        assert (run["error"] and run["error"]["code"]) == code
    assert [len(request.retrieval.exclude_documents) for request in chat.agent.requests] == [1_000]


async def test_what_the_session_leaves_open_is_as_the_bot_has_it(chat: ChatApi, ann: Person) -> None:
    configuration = {"temperature": 0.5, "max_tokens": 50, "chat_history_length": 1}
    bot = await chat.bot(ann, provider="openai", model="gpt", configuration=configuration)
    session = await chat.session(ann, bot_id=bot["id"])
    for _ in range(2):
        request = await asked(chat, ann, session)
        assert request.model.model_dump() == {
            "provider": "openai",
            "name": "gpt",
            "temperature": 0.5,
            "max_tokens": 50,
        }
        assert len(request.messages) == 1


async def test_what_the_session_sets_itself_wins(chat: ChatApi, ann: Person) -> None:
    configuration = {"temperature": 0.5, "max_tokens": 50, "chat_history_length": 1}
    bot = await chat.bot(ann, provider="openai", model="gpt", configuration=configuration)
    settings = {"temperature": 0.0, "chat_history_length": 3}
    session = await chat.session(ann, bot_id=bot["id"], provider="local", model="own", settings=settings)
    await asked(chat, ann, session)
    request = await asked(chat, ann, session)
    assert request.model.model_dump() == {"provider": "local", "name": "own", "temperature": 0.0, "max_tokens": 50}
    assert len(request.messages) == 3


@pytest.mark.parametrize(
    ("bots", "sessions", "shown"),
    [
        (None, None, None),
        ("You guide.", None, "You guide."),
        (None, "Be brief.", "Be brief."),
        ("You guide.", "Be brief.", "You guide.\n\nBe brief."),
        ("", "Be brief.", "Be brief."),
        ("You guide.", "", "You guide."),
    ],
)
async def test_the_bots_prompt_comes_before_the_sessions(
    chat: ChatApi, ann: Person, bots: str | None, sessions: str | None, shown: str | None
) -> None:
    bot = await chat.bot(ann, system_prompt=bots)
    request = await asked(chat, ann, await chat.session(ann, bot_id=bot["id"], system_prompt=sessions))
    assert request.system_prompt == shown


async def test_a_changed_bot_answers_by_its_new_values(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann, system_prompt="Old")
    session = await chat.session(ann, bot_id=bot["id"])
    await asked(chat, ann, session)
    await change_bot(chat, ann, bot, system_prompt="New")
    assert (await asked(chat, ann, session)).system_prompt == "New"


async def take_away(chat: ChatApi, owner: Person, bot: Json, how: str, person: Person) -> None:
    match how:
        case "deleted":
            answer = await chat.client.delete(f"{API}/bots/{bot['id']}", headers=owner.headers)
            assert answer.status_code == 204
        case "unshared":
            path = f"{API}/bots/{bot['id']}/shares/{person.id}"
            assert (await chat.client.delete(path, headers=owner.headers)).status_code == 204
        case _:
            await change_bot(chat, owner, bot, visibility="private")


@pytest.mark.parametrize("how", ["deleted", "unshared", "made private"])
async def test_a_bot_that_is_gone_fails_the_run_visibly(chat: ChatApi, ann: Person, bob: Person, how: str) -> None:
    bot = await chat.bot(bob, visibility="shared", system_prompt="Secret of Bob's")
    await chat.share(bob, bot, ann)
    session = await chat.session(ann, bot_id=bot["id"])
    await asked(chat, ann, session)
    await take_away(chat, bob, bot, how, ann)
    body = await chat.said(ann, session, "Still there?")
    assert (body["run"]["status"], body["run"]["error"]["code"]) == ("failed", "bot-unavailable")
    assert body["run"]["error"]["status"] == 409
    assert (body["reply"]["status"], body["reply"]["content"]) == ("failed", "")
    events = await chat.stream(ann, session, "And now?")
    assert [event.type for event in events] == [
        "message.created", "run.started", "message.created", "message.updated", "run.failed",
    ]  # fmt: skip
    assert [event.id for event in events] == [1, 2, 3, 4, 5]
    assert len(chat.agent.requests) == 1
    again = await regenerate(chat, ann, session, body["message"]["id"])
    assert again["run"]["error"]["code"] == "bot-unavailable"
    await chat.client.patch(f"{API}/sessions/{session['id']}", json={"bot_id": None}, headers=ann.headers)
    healed = await regenerate(chat, ann, session, body["message"]["id"])
    assert healed["run"]["status"] == "completed"
    assert chat.agent.requests[-1].system_prompt is None


async def test_it_counts_whether_the_sessions_owner_may_use_the_bot(chat: ChatApi, ann: Person, bob: Person) -> None:
    bot = await chat.bot(ann)
    session = await chat.session(ann, bot_id=bot["id"], reply_policy="always")
    await chat.join(session, bob)
    assert (await chat.said(bob, session))["run"]["status"] == "completed"


async def test_a_waiting_run_hears_that_its_bot_is_gone(chat: ChatApi, ann: Person) -> None:
    bot = await chat.bot(ann)
    session = await chat.session(ann, bot_id=bot["id"])
    gate = Gate()
    chat.agent.next_scripts = [gate]
    first = await chat.send_async(ann, session)
    await gate.arrival()
    waiting = await chat.send_async(ann, session)
    await take_away(chat, ann, bot, "deleted", ann)
    gate.opened.set()
    assert (await chat.run_ended(ann, first["run"]["id"]))["status"] == "completed"
    assert (await chat.run_ended(ann, waiting["run"]["id"]))["error"]["code"] == "bot-unavailable"


@pytest.mark.parametrize(
    ("content", "is_due"),
    [
        ("@Guide (new), when?", True),
        ("When,\t@guide (NEW)", True),
        ("@assistant, when?", True),
        ("@Guide", False),
        ("@Guide (new)s", False),
        ("ann@Guide (new)", False),
        ("Guide (new), when?", False),
        ("@Other", False),
    ],
)
async def test_a_bot_is_spoken_to_by_its_name(chat: ChatApi, ann: Person, content: str, is_due: bool) -> None:
    bot = await chat.bot(ann, name="Guide (new)")
    await chat.bot(ann, name="Other")
    session = await chat.session(ann, bot_id=bot["id"], reply_policy="mentioned")
    assert ((await chat.said(ann, session, content))["run"] is not None) is is_due


@pytest.fixture
async def bot(chat: ChatApi, ann: Person) -> Json:
    return await chat.bot(ann)


def cited_in(events: list[Event]) -> list[Event]:
    return [event for event in events if event.type == "message.citations"]


async def test_citations_are_streamed_stored_and_shown(chat: ChatApi, ann: Person, bot: Json) -> None:
    cited = [citation(await chat.document_row(bot), index) for index in (2, 1)]
    chat.agent.script = citing(*cited)
    session = await chat.session(ann, bot_id=bot["id"])
    events = await chat.stream(ann, session)
    assert [event.type for event in events] == [
        "message.created", "run.started", "message.created", "message.delta", "message.citations", "message.updated",
        "run.completed",
    ]  # fmt: skip
    [event] = cited_in(events)
    reply = events[-2].data
    assert event.data == {"message_id": reply["id"], "citations": as_json(*cited)}
    assert reply["citations"] == as_json(*cited)
    history = await chat.history(ann, session)
    assert [message["citations"] for message in history] == [[], as_json(*cited)]
    run_id = events[-1].data["id"]
    assert await chat.events(ann, run_id) == events
    assert await chat.events(ann, run_id, after=event.id) == events[5:]
    said = await chat.said(ann, session)
    assert said["reply"]["citations"] == as_json(*cited)


async def test_a_reader_without_the_stream_gets_citations_with_the_reply(
    clean_database: Database,
) -> None:
    async with chat_api(clean_database.api_url, None) as one, chat_api(clean_database.api_url, None) as other:
        ann = await one.person()
        bot = await one.bot(ann)
        cited = citation(await one.document_row(bot))
        one.agent.script = citing(cited)
        body = await one.said(ann, await one.session(ann, bot_id=bot["id"]))
        events = await other.events(ann, body["run"]["id"])
        assert [event.type for event in events] == ["message.created", "message.updated", "run.completed"]
        assert events[1].data["citations"] == as_json(cited)


async def test_a_document_deleted_meanwhile_is_not_cited(chat: ChatApi, ann: Person, bot: Json) -> None:
    kept, deleted = await chat.document_row(bot), await chat.document_row(bot)
    cited = [citation(deleted, 1), citation(kept, 2), citation(uuid4(), 3)]
    gate = Gate(citations=cited, rest="")
    chat.agent.script = gate
    session = await chat.session(ann, bot_id=bot["id"])
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    await chat.rows("UPDATE chat.documents SET deleted_at = now() WHERE id = $1", deleted)
    gate.opened.set()
    await chat.run_ended(ann, accepted["run"]["id"])
    assert (await chat.history(ann, session))[1]["citations"] == as_json(cited[1])
    await chat.rows("UPDATE chat.documents SET deleted_at = now() WHERE id = $1", kept)
    chat.agent.script = citing(cited[1])
    assert (await chat.said(ann, session))["reply"]["citations"] == []


async def test_documents_of_a_bot_deleted_meanwhile_are_not_cited(chat: ChatApi, ann: Person, bot: Json) -> None:
    gate = Gate(citations=[citation(await chat.document_row(bot))], rest="")
    chat.agent.script = gate
    session = await chat.session(ann, bot_id=bot["id"])
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    await chat.client.delete(f"{API}/bots/{bot['id']}", headers=ann.headers)
    gate.opened.set()
    assert (await chat.run_ended(ann, accepted["run"]["id"]))["status"] == "completed"
    assert (await chat.history(ann, session))[1]["citations"] == []


async def test_a_run_that_fails_after_citing_keeps_the_citations(chat: ChatApi, ann: Person, bot: Json) -> None:
    cited = citation(await chat.document_row(bot))
    chat.agent.script = citing(cited, end=ErrorEvent(problem=BROKEN))
    body = await chat.said(ann, await chat.session(ann, bot_id=bot["id"]))
    assert body["run"]["error"]["code"] == "model-rate-limited"
    assert body["reply"]["citations"] == as_json(cited)


async def test_a_run_that_is_cancelled_after_citing_keeps_the_citations(chat: ChatApi, ann: Person, bot: Json) -> None:
    cited = citation(await chat.document_row(bot))
    gate = Gate(citations=[cited])
    chat.agent.script = gate
    session = await chat.session(ann, bot_id=bot["id"])
    run_id = (await chat.send_async(ann, session))["run"]["id"]
    await gate.arrival()
    await chat.told(run_id, "message.citations")
    await chat.client.post(f"{API}/runs/{run_id}/cancel", headers=ann.headers)
    assert (await chat.run_ended(ann, run_id))["status"] == "cancelled"
    assert (await chat.history(ann, session))[1]["citations"] == as_json(cited)
    assert [event.type for event in await chat.events(ann, run_id)][-3:] == [
        "message.citations", "message.updated", "run.cancelled",
    ]  # fmt: skip


async def test_another_reply_has_its_own_citations(chat: ChatApi, ann: Person, bot: Json) -> None:
    first, second = citation(await chat.document_row(bot)), citation(await chat.document_row(bot))
    chat.agent.next_scripts = [citing(first), citing(second), saying("No source.")]
    session = await chat.session(ann, bot_id=bot["id"])
    body = await chat.said(ann, session)
    await regenerate(chat, ann, session, body["message"]["id"])
    await regenerate(chat, ann, session, body["message"]["id"])
    found = [message["citations"] for message in await chat.history(ann, session)]
    assert found == [[], as_json(first), as_json(second), []]


async def test_an_agent_that_comes_back_cites_once(chat: ChatApi, ann: Person, bot: Json) -> None:
    cited = citation(await chat.document_row(bot))
    chat.agent.refusals = [httpx.Response(503)]
    chat.agent.script = citing(cited)
    events = await chat.stream(ann, await chat.session(ann, bot_id=bot["id"]))
    assert len(cited_in(events)) == 1


async def test_a_deleted_reply_shows_no_citations(chat: ChatApi, ann: Person, bot: Json) -> None:
    chat.agent.script = citing(citation(await chat.document_row(bot)))
    session = await chat.session(ann, bot_id=bot["id"])
    reply = (await chat.said(ann, session))["reply"]
    await chat.client.delete(f"{API}/sessions/{session['id']}/messages/{reply['id']}", headers=ann.headers)
    assert (await chat.history(ann, session))[1]["citations"] == []


LEASE: dict[str, Any] = {
    "run_lease_seconds": 0.6,
    "run_heartbeat_seconds": 0.1,
    "run_poll_seconds": 0.1,
    "shutdown_seconds": 0.4,
}


@pytest.fixture
async def two(clean_database: Database, redis_url: str) -> AsyncIterator[tuple[ChatApi, ChatApi]]:
    async with (
        chat_api(clean_database.api_url, redis_url, **LEASE) as dying,
        chat_api(clean_database.api_url, redis_url, **LEASE) as living,
    ):
        yield dying, living


async def test_a_run_whose_process_dies_after_citing_keeps_the_citations(two: tuple[ChatApi, ChatApi]) -> None:
    dying, living = two
    ann = await dying.person()
    bot = await dying.bot(ann)
    cited = citation(await dying.document_row(bot))
    gate = Gate(first="As it says [1]", citations=[cited])
    dying.agent.script = gate
    session = await dying.session(ann, bot_id=bot["id"])
    run_id = (await dying.send_async(ann, session))["run"]["id"]
    await gate.arrival()
    await living.told(run_id, "message.citations")
    await dying.engine.recovery.stop()
    run = await living.run_ended(ann, run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "run-interrupted")
    reply = (await living.history(ann, session))[1]
    assert (reply["content"], reply["citations"]) == ("As it says [1]", as_json(cited))
    events = await living.events(ann, run_id)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events[-3:]] == ["message.citations", "message.updated", "run.failed"]
    gate.opened.set()


async def test_a_run_that_another_process_answers_again_is_on_its_bot_too(two: tuple[ChatApi, ChatApi]) -> None:
    dying, living = two
    ann = await dying.person()
    bot = await dying.bot(ann, system_prompt="You guide.")
    cited = citation(await dying.document_row(bot))
    gate = Gate(first="")
    dying.agent.script = gate
    living.agent.script = citing(cited)
    session = await dying.session(ann, bot_id=bot["id"])
    run_id = (await dying.send_async(ann, session))["run"]["id"]
    await gate.arrival()
    await dying.engine.recovery.stop()
    assert (await living.run_ended(ann, run_id))["status"] == "completed"
    [request] = living.agent.requests
    assert (request.system_prompt, request.collections) == ("You guide.", [UUID(bot["id"])])
    assert (await living.history(ann, session))[1]["citations"] == as_json(cited)
    assert len(cited_in(await living.events(ann, run_id))) == 1
    gate.opened.set()
