"""Making, changing and deleting webhooks, and what is no address for one."""

from __future__ import annotations

import asyncio

import pytest

from tests.factories.chat import API, ChatApi, Person
from tests.factories.webhooks import URL, Webhooks


async def test_made_read_changed_and_deleted(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    made = await hooks.make(ann, description="notes", event_types=["run.completed", "message.created"])
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (await hooks.get(ann, f"/{made['id']}")).json() == made
    assert (await hooks.get(ann, "")).json() == {"items": [made], "next_cursor": None}
    changed = await hooks.patch(ann, made, enabled=False, event_types=[])
    assert (changed["enabled"], changed["disabled_reason"], changed["event_types"]) == (False, "owner", [])
    assert changed["description"] == "notes"
    changed = await hooks.patch(ann, made, enabled=True, url="https://other.example.com/a?b=c")
    assert (changed["enabled"], changed["url"]) == (True, "https://other.example.com/a?b=c")
    answer = await chat.client.delete(f"{API}/webhooks/{made['id']}", headers=ann.headers)
    assert answer.status_code == 204
    assert (await hooks.get(ann, f"/{made['id']}")).json()["code"] == "webhook-not-found"
    stored = await chat.rows("SELECT secret FROM chat.webhook_endpoints")
    assert not stored


async def test_the_secret_is_sealed_and_in_one_answer_alone(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    headers = {"Idempotency-Key": "once"}
    answers = [
        await chat.client.post(f"{API}/webhooks", json={"url": URL}, headers={**ann.headers, **headers})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert answers[0].headers["Cache-Control"] == "no-store"
    secret = answers[0].json()["secret"]
    [row] = await chat.rows(
        "SELECT w.secret, k.body FROM chat.webhook_endpoints w, chat.idempotency_keys k WHERE k.key = 'once'"
    )
    assert secret.encode() not in row["secret"]
    assert secret.encode() not in row["body"]


async def test_a_second_person_sees_nothing_of_it(chat: ChatApi, ann: Person, bob: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    delivery = (await hooks.post(ann, f"/{hook['id']}/test")).json()
    assert (await hooks.get(bob, "")).json()["items"] == []
    own = await hooks.make(bob)
    for path in (
        f"/{hook['id']}/test",
        f"/{hook['id']}/rotate-secret",
        f"/{hook['id']}/deliveries/{delivery['id']}/redeliver",
    ):
        assert (await hooks.post(bob, path)).json()["code"] == "webhook-not-found"
    assert (await hooks.get(bob, f"/{hook['id']}/deliveries")).status_code == 404
    # Nor by way of one's own.
    answer = await hooks.post(bob, f"/{own['id']}/deliveries/{delivery['id']}/redeliver")
    assert answer.json()["code"] == "delivery-not-found"


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "hooks.example.com",
        "https://user:pass@hooks.example.com/",
        "https://localhost/",
        "https://db.internal/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://2130706433/",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/" + "a" * 2_000,
    ],
)
async def test_what_is_no_public_https_address_is_refused(ann: Person, hooks: Webhooks, url: str) -> None:
    answer = await hooks.post(ann, "", json={"url": url})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "url"]


async def test_twenty_are_the_most_also_for_those_who_ask_at_once(ann: Person, hooks: Webhooks) -> None:
    for _ in range(17):
        await hooks.make(ann)
    answers = await asyncio.gather(*(hooks.post(ann, "", json={"url": URL}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"too-many-webhooks"}


async def test_pages_of_deliveries_by_status(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    hook = await hooks.make(ann)
    made = [(await hooks.post(ann, f"/{hook['id']}/test")).json()["id"] for _ in range(5)]
    hooks.sender.answers = [204, 410]
    first = await hooks.get(ann, f"/{hook['id']}/deliveries?limit=2")
    rest = await hooks.get(ann, f"/{hook['id']}/deliveries?limit=50&cursor={first.json()['next_cursor']}")
    assert [one["id"] for one in first.json()["items"] + rest.json()["items"]] == made[::-1]
    pending = await hooks.get(ann, f"/{hook['id']}/deliveries?status=failed")
    assert pending.json()["items"] == []
