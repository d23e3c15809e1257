"""Secrets of webhooks, sealed anew after a change of the installation's key, while people go on using them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from chat_api.config import ApiSettings
from chat_api.webhooks.resealing import Resealed, Resealing
from chat_api.webhooks.secrets import WebhookSecrets
from chat_api.worker import webhook_runner
from shared.security import KeyRing
from tests.factories.chat import ChatApi, Json, Person
from tests.factories.webhooks import Webhooks
from tests.fakes.webhooks import Received

NEW = "the new secret key of more than thirty-two bytes"
STRANGE = "a strange secret key of more than thirty-two bytes"
DAYS_BOTH_SIGN = 1
_WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def old_key(chat: ChatApi) -> str:
    return chat.settings.secret_key.get_secret_value()


def resealing(chat: ChatApi, *, previous: Sequence[str] | None = None) -> Resealing:
    ring = KeyRing(NEW, tuple([old_key(chat)] if previous is None else previous))
    return Resealing(chat.app.state.database, WebhookSecrets(ring), chat.clock)


async def reseal(chat: ChatApi, *, previous: Sequence[str] | None = None) -> Resealed:
    return await resealing(chat, previous=previous).run(lambda _: None)


async def stored(chat: ChatApi) -> list[tuple[Any, ...]]:
    rows = await chat.rows("SELECT id, secret, previous_secret, updated_at FROM chat.webhook_endpoints ORDER BY id")
    return [tuple(row) for row in rows]


def after(settings: ApiSettings) -> ApiSettings:
    """Of a worker that knows the new key alone."""
    return settings.model_copy(update={"secret_key": SecretStr(NEW)})


async def delivered(chat: ChatApi, owner: Person, hooks: Webhooks, hook: Json) -> Received:
    hooks.runner = webhook_runner(after(chat.settings), chat.app.state.database, hooks.sender, chat.clock)
    await hooks.post(owner, f"/{hook['id']}/test")
    await hooks.deliver()
    return hooks.sender.received[-1]


def signatures(received: Received, secrets: Sequence[str]) -> str:
    head = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}."
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    made = [hmac.digest(key, head.encode() + received.body, hashlib.sha256) for key in keys]
    return " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in made)


async def test_receivers_notice_nothing(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    """Both secrets that sign for a day are good after the old key is gone, and the owner sees no change."""
    hook = await hooks.make(ann)
    newer = (await hooks.post(ann, f"/{hook['id']}/rotate-secret")).json()
    [(_, _, _, changed)] = await stored(chat)

    assert await reseal(chat) == Resealed(rewritten=2)

    assert [row[3] for row in await stored(chat)] == [changed]
    received = await delivered(chat, ann, hooks, hook)
    assert received.headers["webhook-signature"] == signatures(received, [newer["secret"], hook["secret"]])


async def test_a_second_time_there_is_nothing_to_do(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    for _ in range(2):
        await hooks.make(ann)
    await reseal(chat)
    before = await stored(chat)

    assert await reseal(chat) == Resealed(current=2)

    assert await stored(chat) == before


async def test_what_no_key_opens_is_told_and_left_as_it_is(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    lost, kept = [await hooks.make(ann) for _ in range(2)]
    alien = WebhookSecrets(KeyRing(STRANGE)).seal("whsec_c2VjcmV0")
    await chat.rows("UPDATE chat.webhook_endpoints SET secret = $2 WHERE id = $1", UUID(lost["id"]), alien)

    assert await reseal(chat) == Resealed(rewritten=1, unreadable=[UUID(lost["id"])])
    assert {row[0]: row[1] for row in await stored(chat)}[UUID(lost["id"])] == alien
    received = await delivered(chat, ann, hooks, kept)
    assert received.headers["webhook-signature"] == signatures(received, [kept["secret"]])

    # Its key is found again.
    assert await reseal(chat, previous=[STRANGE]) == Resealed(rewritten=1, current=1)
    received = await delivered(chat, ann, hooks, lost)
    assert received.headers["webhook-signature"] == signatures(received, ["whsec_c2VjcmV0"])


async def test_an_earlier_secret_counts_as_lost_only_while_it_signs(
    chat: ChatApi, ann: Person, hooks: Webhooks
) -> None:
    hook = await hooks.make(ann)
    await hooks.post(ann, f"/{hook['id']}/rotate-secret")
    alien = WebhookSecrets(KeyRing(STRANGE)).seal("whsec_c2VjcmV0")
    await chat.rows("UPDATE chat.webhook_endpoints SET previous_secret = $1", alien)

    assert await reseal(chat) == Resealed(rewritten=1, unreadable=[UUID(hook["id"])])
    chat.clock.advance(timedelta(days=DAYS_BOTH_SIGN, seconds=1))
    assert await reseal(chat) == Resealed(current=1)
    [(_, _, previous, _)] = await stored(chat)
    assert previous == alien


@pytest.mark.parametrize("meanwhile", ["a new secret", "deleted"])
async def test_what_its_owner_does_meanwhile_holds(chat: ChatApi, ann: Person, hooks: Webhooks, meanwhile: str) -> None:
    """The owner's statement has the row first: the other waits for it, and goes by what is there then."""
    hook = await hooks.make(ann)
    newer = WebhookSecrets(KeyRing(old_key(chat))).seal("whsec_bmV3ZXI=")
    database = chat.app.state.database
    async with database.unit() as owner:
        if meanwhile == "deleted":
            await owner.execute(text("DELETE FROM chat.webhook_endpoints"))
        else:
            change = text(
                "UPDATE chat.webhook_endpoints"
                " SET previous_secret = secret, previous_secret_until = :until, secret = :secret"
            )
            await owner.execute(change, {"secret": newer, "until": chat.clock.now() + timedelta(days=1)})
        under_way = asyncio.create_task(reseal(chat))
        async with asyncio.timeout(30):
            while not await chat.rows(_WAITING):
                assert not under_way.done(), "it waits for nobody"
                await asyncio.sleep(0.02)
    done = await under_way

    if meanwhile == "deleted":
        assert (done, await stored(chat)) == (Resealed(), [])
        return
    assert done == Resealed(rewritten=2)
    received = await delivered(chat, ann, hooks, hook)
    assert received.headers["webhook-signature"] == signatures(received, ["whsec_bmV3ZXI=", hook["secret"]])


async def test_more_webhooks_than_are_read_at_once(chat: ChatApi, ann: Person, hooks: Webhooks) -> None:
    """Only the first and the last are under the old key: 204 commits show nothing more."""
    await hooks.make(ann)
    await chat.rows(
        "INSERT INTO chat.webhook_endpoints (id, user_id, url, secret)"
        " SELECT gen_random_uuid(), user_id, url, secret FROM chat.webhook_endpoints, generate_series(1, 205)"
    )
    first, *between, last = [row[0] for row in await stored(chat)]
    secrets = WebhookSecrets(KeyRing(NEW))
    sealed = secrets.seal("whsec_c2VjcmV0")
    await chat.rows("UPDATE chat.webhook_endpoints SET secret = $2 WHERE id = ANY($1)", between, sealed)
    looked_at: list[int] = []
    work = resealing(chat)

    assert await work.count() == 206
    assert await work.run(looked_at.append) == Resealed(rewritten=2, current=204)

    assert looked_at == [200, 6]
    opened = {row[0]: secrets.read(row[1]) for row in await stored(chat)}
    assert opened[first] == opened[last] != opened[between[0]]
