"""Sending a message: stored once, numbered without gaps, answered in three ways."""

from __future__ import annotations

import asyncio
from uuid import UUID

from tests.factories.chat import API, ChatApi, Person, joined_text, problem


async def test_json_waits_for_the_reply(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, system_prompt="Be brief.")
    answer = await chat.send(ann, session, "Good morning", client_id="m1", metadata={"mood": "bright"})
    assert answer.status_code == 201
    body = answer.json()
    assert body["message"]["content"] == "Good morning"
    assert body["message"]["seq"] == 1
    assert body["message"]["sender"] == {"id": str(ann.id), "username": "ann"}
    assert body["message"]["client_id"] == "m1"
    assert body["message"]["metadata"] == {"mood": "bright"}
    assert body["message"]["run_id"] == body["run"]["id"]
    assert body["run"]["status"] == "completed"
    assert body["run"]["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    reply = body["reply"]
    assert (reply["seq"], reply["role"], reply["status"]) == (2, "assistant", "complete")
    assert reply["content"] == "You said: Good morning"
    assert reply["parent_id"] == body["message"]["id"]
    assert (reply["provider"], reply["model"]) == ("local", "scripted")
    assert (reply["latency_ms"], reply["time_to_first_token_ms"]) == (21, 3)
    assert await chat.history(ann, session) == [body["message"], reply]
    assert chat.agent.requests[0].system_prompt == "Be brief."


async def test_an_sse_stream_tells_the_whole_run(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    events = await chat.stream(ann, session, "Hi")
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    kinds = [event.type for event in events]
    assert kinds[:3] == ["message.created", "run.started", "message.created"]
    assert kinds[-2:] == ["message.updated", "run.completed"]
    assert set(kinds[3:-2]) == {"message.delta"}
    assert events[0].data["role"] == "user"
    assert events[2].data["role"] == "assistant"
    assert events[2].data["status"] == "streaming"
    assert joined_text(events) == "You said: Hi" == events[-2].data["content"]
    assert await chat.history(ann, session) == [events[0].data, events[-2].data]


async def test_respond_async_returns_at_once(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    answer = await chat.send(ann, session, "Hi", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert set(answer.json()) == {"message", "run"}
    run = await chat.run_ended(ann, answer.json()["run"]["id"])
    assert run["status"] == "completed"


async def test_fifty_sends_with_one_client_id_are_one_message(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    answers = await asyncio.gather(*(chat.send(ann, session, "Once", client_id="same") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 49
    assert len(await chat.history(ann, session)) == 2
    assert len(chat.agent.requests) == 1
    assert len(await chat.rows("SELECT 1 FROM chat.runs")) == 1


async def test_twenty_writers_leave_no_gap(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    people = [ann] + [await chat.person() for _ in range(19)]
    for person in people[1:]:
        await chat.join(session, person)

    async def write(person: Person) -> None:
        for number in range(5):
            await chat.said(person, session, f"{person.username} {number}")

    await asyncio.gather(*(write(person) for person in people))
    # Each of the 19 who came was told by a message and by two events.
    history = await chat.history(ann, session, limit=100)
    assert [message["seq"] for message in history] == list(range(20, 120))
    events = await chat.rows("SELECT event_seq FROM chat.session_events ORDER BY event_seq")
    assert [row["event_seq"] for row in events] == list(range(1, 139))


async def test_the_same_client_id_with_another_text_is_refused(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.said(ann, session, "One", client_id="c")
    assert problem(await chat.send(ann, session, "Two", client_id="c")) == (422, "idempotency-key-reused")
    assert [message["content"] for message in await chat.history(ann, session)] == ["One"]


async def test_client_ids_are_each_senders_own(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.join(session, bob)
    first = await chat.said(ann, session, "From Ann", client_id="c")
    second = await chat.said(bob, session, "From Bob", client_id="c")
    assert (first["message"]["seq"], second["message"]["seq"]) == (2, 3)


async def test_an_idempotency_key_serves_as_client_id(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    headers = {"Idempotency-Key": "k-1"}
    first = await chat.send(ann, session, "Once", headers=headers)
    second = await chat.send(ann, session, "Once", headers=headers)
    assert first.content == second.content
    assert second.headers["idempotent-replayed"] == "true"
    assert problem(await chat.send(ann, session, "Else", headers=headers)) == (422, "idempotency-key-reused")


async def test_a_replayed_stream_is_the_same_stream(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    first = await chat.stream(ann, session, "Hi", client_id="c")
    second = await chat.stream(ann, session, "Hi", client_id="c")
    assert [(event.id, event.type) for event in first] == [(event.id, event.type) for event in second]


async def test_without_a_reply_due_there_is_no_run(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    body = await chat.said(ann, session, "Note to self")
    assert (body["run"], body["reply"]) == (None, None)
    events = await chat.stream(ann, session, "Another")
    assert [event.type for event in events] == ["message.created"]
    assert chat.agent.requests == []


async def test_among_several_people_the_assistant_waits_to_be_named(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    await chat.join(session, bob)
    assert (await chat.said(ann, session, "Lunch?"))["run"] is None
    assert (await chat.said(ann, session, "mail assistant@assistant.example"))["run"] is None
    body = await chat.said(bob, session, "What do you think, @Assistant?")
    assert body["reply"]["content"].startswith("You said")
    assert [message.name for message in chat.agent.requests[0].messages] == ["ann", "ann", "bob"]


async def test_an_archived_session_takes_no_message(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await chat.client.post(f"{API}/sessions/{session['id']}/archive", headers=ann.headers)
    assert problem(await chat.send(ann, session)) == (409, "session-archived")
    assert await chat.history(ann, session) == []


async def test_what_was_stored_before_the_archive_is_still_acknowledged(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    sent = await chat.said(ann, session, client_id="c")
    await chat.client.post(f"{API}/sessions/{session['id']}/archive", headers=ann.headers)

    again = await chat.send(ann, session, client_id="c")

    assert (again.status_code, again.headers.get("idempotent-replayed")) == (201, "true")
    assert again.json() == sent
    assert problem(await chat.send(ann, session, "Else", client_id="c")) == (422, "idempotency-key-reused")
    assert problem(await chat.send(ann, session, client_id="d")) == (409, "session-archived")


async def test_strangers_cannot_send(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)
    assert problem(await chat.send(bob, session)) == (404, "session-not-found")
    assert await chat.history(ann, session) == []


async def test_the_request_id_reaches_the_agent(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    answer = await chat.send(ann, session, headers={"X-Request-ID": "trace-me-1"})
    assert answer.headers["x-request-id"] == "trace-me-1"
    assert chat.agent.headers[0]["x-request-id"] == "trace-me-1"


async def test_the_model_sees_answers_after_what_they_answer(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    first, second = await asyncio.gather(chat.said(ann, session, "first"), chat.said(ann, session, "second"))
    last = await chat.said(ann, session, "third")
    assert last["message"]["seq"] == 5
    said = [message.content for message in chat.agent.requests[-1].messages]
    assert sorted(said[:4:2]) == ["first", "second"]
    assert said[1] == f"You said: {said[0]}"
    assert said[3] == f"You said: {said[2]}"
    assert said[4] == "third"
    assert {first["run"]["status"], second["run"]["status"]} == {"completed"}


async def test_history_shown_to_the_model_is_bounded(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, settings={"chat_history_length": 3, "temperature": 0.5, "max_tokens": 99})
    for number in range(4):
        await chat.said(ann, session, f"message {number}")
    request = chat.agent.requests[-1]
    assert [message.content for message in request.messages] == ["message 2", "You said: message 2", "message 3"]
    assert (request.model.temperature, request.model.max_tokens) == (0.5, 99)


async def test_deleting_the_session_ends_its_run_quietly(chat: ChatApi, ann: Person) -> None:
    from tests.fakes.agent import Gate

    gate = Gate()
    chat.agent.script = gate
    session = await chat.session(ann)
    accepted = await chat.send_async(ann, session)
    await gate.arrival()
    deleted = await chat.client.delete(f"{API}/sessions/{session['id']}", headers=ann.headers)
    assert deleted.status_code == 204
    run_id = UUID(accepted["run"]["id"])
    async with asyncio.timeout(30):
        while chat.engine.executor.active_count:
            await asyncio.sleep(0.01)
    assert chat.agent.abandoned == 1
    assert await chat.rows("SELECT 1 FROM chat.runs WHERE id = $1", run_id) == []
