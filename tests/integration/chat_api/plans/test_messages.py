"""Messages by the day: exactly as many as the plan allows, whatever is sent at once, and whatever is deleted."""

from __future__ import annotations

import asyncio
from uuid import UUID

from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.plans import WithPlans, used


async def sent(chat: ChatApi) -> int:
    [row] = await chat.rows("SELECT count(*) AS sent FROM chat.messages WHERE role = 'user'")
    count: int = row["sent"]
    return count


async def send_patiently(chat: ChatApi, person: Person, session: Json, client_id: str) -> int:
    """Its status. A busy machine may say that it has no connection free, and that it is to be tried again."""
    while (answer := await chat.send(person, session, client_id=client_id)).status_code == 503:
        await asyncio.sleep(0.05)
    return answer.status_code


async def test_the_message_after_the_last_is_refused_until_the_day_ends(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=2) as chat:
        ann = await chat.person()
        session = await chat.session(ann, reply_policy="never")
        stored = [await chat.send(ann, session, f"{number}") for number in range(2)]
        refused = await chat.send(ann, session, "one too many")

        assert [answer.status_code for answer in stored] == [201, 201]
        assert problem(refused) == (429, "quota-exceeded")
        assert 0 < int(refused.headers["Retry-After"]) <= 86_400
        assert await used(chat, ann, "messages") == (2, 0)
        assert [item["seq"] for item in await chat.history(ann, session)] == [1, 2]


async def test_the_next_day_begins_anew(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=1) as chat:
        ann = await chat.person()
        session = await chat.session(ann, reply_policy="never")
        await chat.send(ann, session)
        await chat.rows("UPDATE chat.user_days SET day = day - 1 WHERE user_id = $1", ann.id)

        assert (await chat.send(ann, session)).status_code == 201
        assert (await chat.send(ann, session)).status_code == 429


async def test_deleting_gives_nothing_back(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=1) as chat:
        ann = await chat.person()
        session = await chat.session(ann, reply_policy="never")
        await chat.send(ann, session)
        assert (await chat.client.delete(f"{API}/sessions/{session['id']}", headers=ann.headers)).status_code == 204
        other = await chat.session(ann, reply_policy="never")

        assert problem(await chat.send(ann, other)) == (429, "quota-exceeded")


async def test_everybody_has_a_quota_of_their_own(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=1) as chat:
        ann, bob = await chat.person("ann"), await chat.person("bob")
        session = await chat.session(ann, reply_policy="never")
        await chat.join(session, bob)
        await chat.send(ann, session)

        assert (await chat.send(bob, session)).status_code == 201
        assert (await chat.send(ann, session)).status_code == 429


async def test_fifty_at_once_over_two_processes_are_as_many_as_the_quota(
    with_plans: WithPlans,
) -> None:
    async with with_plans(messages_per_day=30) as one, with_plans(messages_per_day=30) as other:
        ann = await one.person()
        sessions = [await one.session(ann, reply_policy="never") for _ in range(10)]
        sending = [
            send_patiently((one, other)[number % 2], ann, sessions[number % 10], f"{number}") for number in range(50)
        ]

        assert sorted(await asyncio.gather(*sending)) == [201] * 30 + [429] * 20
        assert await sent(one) == 30
        assert await used(one, ann, "messages") == (30, 0)
        numbers = await one.rows("SELECT last_seq, message_count FROM chat.sessions")
        assert all(row["last_seq"] == row["message_count"] for row in numbers), "a refused message takes no number"


async def test_far_from_the_quota_and_near_it_add_up(with_plans: WithPlans) -> None:
    """Beyond the last hundred each connection counts by itself: the last ones must know of all of them."""
    async with with_plans(messages_per_day=140) as chat:
        ann = await chat.person()
        sessions = [await chat.session(ann, reply_policy="never") for _ in range(10)]
        statuses: list[int] = []
        for turn in range(4):
            sending = (send_patiently(chat, ann, sessions[number % 10], f"{turn}-{number}") for number in range(40))
            statuses += await asyncio.gather(*sending)

        assert sorted(statuses) == [201] * 140 + [429] * 20
        assert await used(chat, ann, "messages") == (140, 0)
        shards = await chat.rows("SELECT shard, messages, allowed FROM chat.user_days")
        assert {row["shard"] > 0 for row in shards} == {True, False}, "both ways were gone"


async def test_who_asks_again_gets_what_was_stored_and_it_counts_once(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=1) as chat:
        ann = await chat.person()
        session = await chat.session(ann, reply_policy="never")
        first = await chat.send(ann, session, client_id="one")
        again = await chat.send(ann, session, client_id="one")

        assert (again.status_code, again.json()) == (201, first.json())
        assert await used(chat, ann, "messages") == (1, 0)


async def test_a_larger_plan_helps_at_once_in_a_process_that_knows_the_smaller(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=1) as chat:
        ann = await chat.person()
        session = await chat.session(ann, reply_policy="never")
        await chat.send(ann, session)
        await chat.rows("UPDATE chat.users SET plan = 'pro' WHERE id = $1", ann.id)

        assert (await chat.send(ann, session)).status_code == 201
        assert await used(chat, ann, "messages") == (2, None)


async def test_a_plan_that_is_gone_counts_as_the_default_one(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=1) as chat:
        ann = await chat.person()
        await chat.rows("UPDATE chat.users SET plan = 'abolished' WHERE id = $1", ann.id)
        session = await chat.session(ann, reply_policy="never")
        await chat.send(ann, session)

        assert (await chat.send(ann, session)).status_code == 429


async def test_a_message_with_files_counts_too(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=1) as chat:
        ann = await chat.person()
        session = await chat.session(ann, reply_policy="never")
        file = await chat.client.post(f"{API}/attachments", files={"file": ("a.txt", b"words")}, headers=ann.headers)
        stored = await chat.send(ann, session, attachment_ids=[file.json()["id"]])
        refused = await chat.send(ann, session, attachment_ids=[file.json()["id"]])

        assert (stored.status_code, refused.status_code) == (201, 429)


async def test_what_is_refused_for_another_reason_costs_nothing(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=1) as chat:
        ann, bob = await chat.person("ann"), await chat.person("bob")
        session = await chat.session(bob, reply_policy="never")
        assert problem(await chat.send(ann, session)) == (404, "session-not-found")
        await chat.client.post(f"{API}/sessions/{session['id']}/archive", headers=bob.headers)
        assert problem(await chat.send(bob, session)) == (409, "session-archived")

        assert await chat.rows("SELECT * FROM chat.user_days WHERE user_id = ANY($1)", [ann.id, bob.id]) == []


async def test_a_closed_day_is_forgotten_with_its_person(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        ann = await chat.person()
        session = await chat.session(ann, reply_policy="never")
        await chat.send(ann, session)
        await chat.rows("DELETE FROM chat.sessions WHERE id = $1", UUID(session["id"]))
        await chat.rows("DELETE FROM chat.users WHERE id = $1", ann.id)

        assert await chat.rows("SELECT * FROM chat.user_days") == []
