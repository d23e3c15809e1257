"""Events come to whom they are for, signed, once where all goes well, and again where it does not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from chat_api.webhooks.deliver import PAUSES_SECONDS, forget_deliveries
from chat_api.webhooks.errors import EndpointTimedOut, EndpointUnreachable
from chat_api.webhooks.fair_share import WebhookJobs
from chat_api.webhooks.models import DELIVER_TOPIC
from chat_api.worker import webhook_runner
from tests.factories.chat import API, ChatApi, Person
from tests.factories.webhooks import URL, Webhooks


async def say(chat: ChatApi, person: Person, session: dict[str, object], content: str = "The tide is in.") -> None:
    answer = await chat.client.post(
        f"{API}/sessions/{session['id']}/messages", json={"content": content}, headers=person.headers
    )
    assert answer.status_code == 201, answer.text


async def test_every_event_of_a_turn_is_told_as_the_log_has_it(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    session = await chat.session(ann)
    await say(chat, ann, session)
    await hooks.deliver()
    log = await chat.rows("SELECT event_seq, type FROM chat.session_events ORDER BY event_seq")
    assert len(log) >= 5
    assert sorted((told["event_seq"], told["type"]) for told in hooks.told) == [tuple(row) for row in log]
    first = min(hooks.told, key=lambda told: told["event_seq"])
    assert first["session_id"] == session["id"]
    assert first["data"]["content"] == "The tide is in."
    assert first["timestamp"].endswith("Z")
    assert {one["status"] for one in await hooks.deliveries(ann, hook)} == {"delivered"}
    assert not await hooks.waiting()


async def test_the_official_library_accepts_the_signature(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    answer = await hooks.post(ann, f"/{hook['id']}/test")
    await hooks.deliver()
    [received] = hooks.sender.received
    assert received.url == URL
    assert Webhook(hook["secret"]).verify(received.body, received.headers)["type"] == "webhook.test"
    assert received.headers["webhook-id"] == answer.json()["id"]
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(hook["secret"]).verify(received.body.replace(b"test", b"tent"), received.headers)


async def test_for_a_day_both_secrets_sign(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    rotated = (await hooks.post(ann, f"/{hook['id']}/rotate-secret")).json()
    assert rotated["secret"] != hook["secret"]
    await hooks.post(ann, f"/{hook['id']}/test")
    await hooks.deliver()
    for secret in (hook["secret"], rotated["secret"]):
        Webhook(secret).verify(hooks.sender.received[-1].body, hooks.sender.received[-1].headers)
    await hooks.later(hours=25)
    await hooks.post(ann, f"/{hook['id']}/test")
    await hooks.deliver()
    assert len(hooks.sender.received[-1].headers["webhook-signature"].split()) == 1


async def test_only_the_types_that_are_wanted_and_only_ones_own_sessions(
    chat: ChatApi, ann: Person, bob: Person, hooks: Webhooks
) -> None:
    await hooks.make(ann, event_types=["message.created"])
    room = await chat.session(bob, reply_policy="never")
    await chat.join(room, ann)
    await say(chat, bob, room)
    assert not await hooks.waiting()
    own = await chat.session(ann, reply_policy="never")
    await say(chat, ann, own)
    await chat.client.patch(f"{API}/sessions/{own['id']}", json={"title": "Tides"}, headers=ann.headers)
    await hooks.deliver()
    assert [told["type"] for told in hooks.told] == ["message.created"]


async def test_nothing_is_stored_for_what_was_rolled_back_or_for_nobody(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann, reply_policy="never")
    await say(chat, ann, session)
    assert not await chat.rows("SELECT 1 FROM chat.webhook_deliveries")


async def test_what_fails_is_tried_again_with_longer_pauses_and_given_up(
    chat: ChatApi, ann: Person, hooks: Webhooks
) -> None:
    hook = await hooks.make(ann)
    await hooks.post(ann, f"/{hook['id']}/test")
    hooks.sender.answers = [500, 302, EndpointTimedOut(), EndpointUnreachable(), 404, 429, 503, 500]
    for number, seconds in enumerate(PAUSES_SECONDS, start=1):
        await hooks.deliver()
        [delivery] = await hooks.deliveries(ann, hook)
        assert (delivery["status"], delivery["attempts"]) == ("pending", number)
        [waiting] = await chat.rows("SELECT available_at - now() AS pause FROM chat.outbox")
        assert seconds - 5 <= waiting["pause"].total_seconds() <= seconds * 1.1 + 1
        await hooks.later(seconds=seconds * 1.2)
    await hooks.deliver()
    [delivery] = await hooks.deliveries(ann, hook)
    assert (delivery["status"], delivery["attempts"]) == ("failed", 8)
    assert delivery["response_status"] == 500
    assert delivery["problem"]["code"] == "webhook-refused"
    assert delivery["finished_at"] is not None
    assert not await hooks.waiting()
    assert len({received.headers["webhook-id"] for received in hooks.sender.received}) == 1


async def test_what_was_given_up_can_be_delivered_again(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    hooks.sender.answers = [410]
    await hooks.post(ann, f"/{hook['id']}/test")
    await hooks.deliver()
    [delivery] = await hooks.deliveries(ann, hook)
    assert delivery["status"] == "failed"
    assert (await hooks.get(ann, f"/{hook['id']}")).json()["disabled_reason"] == "gone"
    path = f"/{hook['id']}/deliveries/{delivery['id']}/redeliver"
    assert (await hooks.post(ann, path)).json()["code"] == "webhook-disabled"
    await hooks.patch(ann, hook, enabled=True)
    assert (await hooks.post(ann, path)).status_code == 202
    assert (await hooks.post(ann, path)).json()["code"] == "delivery-pending"
    await hooks.deliver()
    [delivery] = await hooks.deliveries(ann, hook)
    assert (delivery["status"], delivery["attempts"], delivery["problem"]) == ("delivered", 1, None)
    assert len({received.headers["webhook-id"] for received in hooks.sender.received}) == 1


async def test_an_endpoint_that_failed_rests_and_costs_the_others_nothing(
    chat: ChatApi, ann: Person, bob: Person, hooks: Webhooks
) -> None:
    broken, whole = await hooks.make(ann), await hooks.make(bob)
    hooks.sender.answers = [500]
    await hooks.post(ann, f"/{broken['id']}/test")
    await hooks.deliver()
    session = await chat.session(ann, reply_policy="never")
    await say(chat, ann, session)
    await hooks.post(bob, f"/{whole['id']}/test")
    await hooks.deliver()
    assert len(hooks.sender.received) == 2, "the broken one is left alone for a moment"
    first, second = await hooks.deliveries(ann, broken)
    assert (first["attempts"], second["attempts"]) == (1, 0)
    [other] = await hooks.deliveries(bob, whole)
    assert other["status"] == "delivered"
    await hooks.later(seconds=10)
    await hooks.deliver()
    assert [one["status"] for one in await hooks.deliveries(ann, broken)] == ["delivered", "delivered"]
    assert (await hooks.get(ann, f"/{broken['id']}")).json()["failing_since"] is None


async def test_after_days_without_a_success_it_is_disabled(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    await chat.session(ann)
    hooks.sender.answers = [500, 500]
    await hooks.post(ann, f"/{hook['id']}/test")
    await hooks.deliver()
    await hooks.later(days=5, minutes=1)
    await hooks.deliver()
    read = (await hooks.get(ann, f"/{hook['id']}")).json()
    assert (read["enabled"], read["disabled_reason"]) == (False, "failing")
    await hooks.later(days=1)
    await hooks.deliver()
    [delivery] = await hooks.deliveries(ann, hook)
    assert (delivery["status"], delivery["problem"]["code"]) == ("cancelled", "webhook-disabled")
    await chat.rows(
        "INSERT INTO chat.session_events (session_id, event_seq, type)"
        " SELECT id, 1, 'session.updated' FROM chat.sessions"
    )
    assert not await hooks.waiting()


async def test_a_slow_endpoint_takes_half_of_the_places(chat: ChatApi, ann: Person, bob: Person) -> None:
    hooks = Webhooks(chat)
    slow = await hooks.make(ann)
    for _ in range(6):
        await hooks.post(ann, f"/{slow['id']}/test")
    hooks.sender.hold = asyncio.Event()
    task = asyncio.create_task(hooks.deliver())
    async with asyncio.timeout(60):
        while len(await hooks.waiting()) and len(hooks.sender.received) < 4:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert len(hooks.sender.received) == 4
        quick = await hooks.make(bob)
        await hooks.post(bob, f"/{quick['id']}/test")
        hooks.sender.hold.set()
        await task
        await hooks.later(minutes=5)
        await hooks.deliver()
    assert {one["status"] for one in await hooks.deliveries(ann, slow)} == {"delivered"}


async def test_a_backlog_of_one_endpoint_is_put_off_at_once_and_stands_before_nobody(
    chat: ChatApi, ann: Person, bob: Person, hooks: Webhooks
) -> None:
    away = await hooks.make(ann)
    works = await hooks.make(bob)
    await chat.rows(
        """
        WITH told AS (
            INSERT INTO chat.webhook_deliveries (id, endpoint_id, type)
            SELECT gen_random_uuid(), $1, 'webhook.test' FROM generate_series(1, 500) RETURNING id
        )
        INSERT INTO chat.outbox (id, topic, subject_id) SELECT gen_random_uuid(), $2, id FROM told
        """,
        UUID(away["id"]),
        DELIVER_TOPIC,
    )
    await hooks.post(bob, f"/{works['id']}/test")
    jobs = WebhookJobs(chat.app.state.database)
    due = await jobs.due([DELIVER_TOPIC], 200)
    assert len(due) == 21

    await chat.rows(
        "UPDATE chat.webhook_endpoints SET failures = 1, paused_until = $1 WHERE id = $2",
        chat.clock.now() + timedelta(minutes=5),
        UUID(away["id"]),
    )
    [one, *_] = await chat.rows(
        "SELECT o.id FROM chat.outbox o JOIN chat.webhook_deliveries d ON d.id = o.subject_id"
        " WHERE d.endpoint_id = $1 LIMIT 1",
        UUID(away["id"]),
    )
    await hooks.runner.run(one["id"])

    assert len(await jobs.due([DELIVER_TOPIC], 200)) == 1, "the other endpoint's"
    [later] = await chat.rows("SELECT count(*) FROM chat.outbox WHERE available_at > now() + interval '4 minutes'")
    assert later["count"] == 500
    assert not hooks.sender.received


async def test_what_was_deleted_is_not_told(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann, event_types=["message.created"])
    kept, gone = [await chat.session(ann, reply_policy="never") for _ in range(2)]
    for session in (kept, gone):
        await say(chat, ann, session, "A secret of the harbour.")
    [message] = await chat.rows("SELECT id FROM chat.messages WHERE session_id = $1", UUID(kept["id"]))
    await chat.client.delete(f"{API}/sessions/{kept['id']}/messages/{message['id']}", headers=ann.headers)
    await chat.client.delete(f"{API}/sessions/{gone['id']}", headers=ann.headers)
    await hooks.deliver()
    [told] = hooks.told
    assert told["data"]["deleted_at"] is not None
    assert told["data"]["content"] == ""
    assert b"secret" not in hooks.sender.received[0].body
    ended = {one["session_id"]: one for one in await hooks.deliveries(ann, hook)}
    assert ended[gone["id"]]["problem"]["code"] == "event-gone"


async def test_a_secret_key_that_was_changed_is_told_in_the_log(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    await hooks.post(ann, f"/{hook['id']}/test")
    settings = chat.settings.model_copy(update={"secret_key": SecretStr("another key of at least 32 bytes")})
    hooks.runner = webhook_runner(settings, chat.app.state.database, hooks.sender, chat.clock)
    await hooks.deliver()
    [delivery] = await hooks.deliveries(ann, hook)
    assert delivery["problem"]["code"] == "webhook-secret-unreadable"
    assert not hooks.sender.received


async def test_the_log_is_forgotten_after_a_month(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    await hooks.post(ann, f"/{hook['id']}/test")
    await hooks.deliver()
    await hooks.post(ann, f"/{hook['id']}/test")
    chat.clock.advance(timedelta(days=31))
    assert await forget_deliveries(chat.app.state.database, chat.clock) == 1
    [rest] = await hooks.deliveries(ann, hook)
    assert rest["status"] == "pending"
