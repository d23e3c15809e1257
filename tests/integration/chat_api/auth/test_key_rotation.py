"""Two processes of the chat API on different keys, in the middle of a rotation: what one makes, the other takes.

`earlier` still signs with the old key and accepts the new one; `later` is the other way round, as step 2 of
docs/operations.md leaves them between two restarts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from agent_service.adapters.chat_api_keys import PATH as INTROSPECT
from shared.security import ServiceName, service_signer
from tests.factories.admin_pages import ADDRESS, HASH, TOKEN_COOKIE, AdminBrowser
from tests.factories.chat import API, ChatApi, Json, Person, chat_api, problem
from tests.factories.webhooks import Webhooks
from tests.fakes.password_hasher import RecordingHasher
from tests.stores import Database

OLD, NEW = "the-old-secret-key-long-enough-0123456789", "the-new-secret-key-long-enough-0123456789"
OLD_SERVICE, NEW_SERVICE = "the-old-service-key-long-enough-012345678", "the-new-service-key-long-enough-012345678"
ALL_KEYS = (OLD, NEW, OLD_SERVICE, NEW_SERVICE)
KEYS = f"{API}/api-keys"


@dataclass(frozen=True)
class Rotation:
    earlier: ChatApi
    later: ChatApi
    database: Database

    @property
    def both_ways(self) -> list[tuple[ChatApi, ChatApi]]:
        return [(self.earlier, self.later), (self.later, self.earlier)]


def keys(secret: str, service: str, *previous: tuple[str, str]) -> dict[str, Any]:
    return {
        "ws_ticket_seconds": 3_600,  # a busy machine needs more than 30 s to start the process that takes it
        "secret_key": SecretStr(secret),
        "service_key": SecretStr(service),
        "previous_secret_keys": [SecretStr(one) for one, _ in previous],
        "previous_service_keys": [SecretStr(one) for _, one in previous],
    }


@asynccontextmanager
async def after_the_rotation(rotation: Rotation) -> AsyncIterator[ChatApi]:
    """A process that has dropped the old keys."""
    async with chat_api(rotation.database.api_url, None, **keys(NEW, NEW_SERVICE)) as chat:
        yield chat


@pytest.fixture
async def rotation(clean_database: Database) -> AsyncIterator[Rotation]:
    async with AsyncExitStack() as stack:
        earlier, later = [
            await stack.enter_async_context(chat_api(clean_database.api_url, None, **these))
            for these in (keys(OLD, OLD_SERVICE, (NEW, NEW_SERVICE)), keys(NEW, NEW_SERVICE, (OLD, OLD_SERVICE)))
        ]
        yield Rotation(earlier, later, clean_database)


async def me(chat: ChatApi, headers: dict[str, str]) -> httpx.Response:
    return await chat.client.get(f"{API}/users/me", headers=headers)


def minted(chat: ChatApi, person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {chat.app.state.authenticator.mint_access_token(person.id)}"}


async def test_access_tokens(rotation: Rotation, caplog: pytest.LogCaptureFixture) -> None:
    ann = await rotation.earlier.person("ann")
    for maker, other in rotation.both_ways:
        answer = await me(other, minted(maker, ann))
        assert (answer.status_code, answer.json().get("username")) == (200, "ann")
    old, new = minted(rotation.earlier, ann), minted(rotation.later, ann)
    forged = {"Authorization": f"Bearer {_signed(str(ann.id), 'a-key-of-somebody-else-long-enough-0123456')}"}
    tampered = {"Authorization": f"{old['Authorization'][:-4]}AAAA"}

    async with after_the_rotation(rotation) as after:
        with caplog.at_level(logging.DEBUG):
            refused = [
                await me(after, old),
                *[
                    await me(chat, headers)
                    for chat in (rotation.earlier, rotation.later)
                    for headers in (forged, tampered)
                ],
            ]
        assert (await me(after, new)).status_code == 200

    for answer in refused:
        assert problem(answer) == (401, "not-authenticated")
        assert not [key for key in ALL_KEYS if key in answer.text + str(answer.headers)]
    assert not [key for key in ALL_KEYS if key in caplog.text]


async def test_tickets_cursors_and_refresh_tokens_hang_on_no_key(rotation: Rotation) -> None:
    rotation.earlier.app.state.passwords = RecordingHasher()
    body = {"email": "ann@example.org", "username": "ann", "password": "the tide comes in at nine"}
    registered = await rotation.earlier.client.post(f"{API}/auth/register", json=body)
    assert registered.status_code == 201, registered.text
    form = {"username": "ann", "password": body["password"]}
    signed_in = await rotation.earlier.client.post(f"{API}/auth/token", data=form)
    assert signed_in.status_code == 200, signed_in.text
    refresh = {"refresh_token": signed_in.json()["refresh_token"]}
    headers = {"Authorization": f"Bearer {signed_in.json()['access_token']}"}
    for title in ("one", "two"):
        await rotation.earlier.client.post(f"{API}/sessions", json={"title": title}, headers=headers)
    page = (await rotation.earlier.client.get(f"{API}/sessions?limit=1", headers=headers)).json()
    ticket = (await rotation.earlier.client.post(f"{API}/auth/ws-ticket", headers=headers)).json()["ticket"]

    async with after_the_rotation(rotation) as after:
        renewed = await after.client.post(f"{API}/auth/refresh", json=refresh)
        assert renewed.status_code == 200, renewed.text
        headers = {"Authorization": f"Bearer {renewed.json()['access_token']}"}
        query = {"limit": 1, "cursor": page["next_cursor"]}
        rest = (await after.client.get(f"{API}/sessions", params=query, headers=headers)).json()
        assert {one["title"] for one in page["items"] + rest["items"]} == {"one", "two"}
        actor = await after.app.state.authenticator.authenticate_ticket(ticket)
        assert str(actor.user_id) == registered.json()["id"]


async def test_stored_answers_with_a_secret(rotation: Rotation) -> None:
    ann = await rotation.earlier.person("ann")
    for number, (maker, other) in enumerate(rotation.both_ways):
        headers = minted(maker, ann) | {"Idempotency-Key": f"once-{number}"}
        body = {"name": f"key {number}", "scopes": ["chat:read"]}
        made = await maker.client.post(KEYS, json=body, headers=headers)
        again = await other.client.post(KEYS, json=body, headers=headers)
        assert (again.status_code, again.json()) == (201, made.json())
        assert again.headers["idempotent-replayed"] == "true"

    async with after_the_rotation(rotation) as after:
        answers = [
            await after.client.post(
                KEYS,
                json={"name": f"key {number}", "scopes": ["chat:read"]},
                headers=minted(after, ann) | {"Idempotency-Key": f"once-{number}"},
            )
            for number in range(2)
        ]
    assert [answer.status_code for answer in answers] == [422, 201]
    assert answers[0].json()["code"] == "idempotency-key-reused"


async def test_secrets_of_webhooks(rotation: Rotation) -> None:
    ann = await rotation.earlier.person("ann")
    for maker, other in rotation.both_ways:
        hook = await Webhooks(maker).make(ann)
        await _delivers(other, ann, hook)


async def _delivers(chat: ChatApi, owner: Person, hook: Json) -> None:
    """Signed with the secret that the owner was given."""
    hooks = Webhooks(chat)
    answer = await hooks.post(owner, f"/{hook['id']}/test")
    assert answer.status_code == 202, answer.text
    await hooks.deliver()
    [received] = hooks.sender.received
    signed = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}.".encode() + received.body
    key = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert received.headers["webhook-signature"] == f"v1,{expected}"


async def test_the_admin_pages_stay_open(rotation: Rotation) -> None:
    """A page of one process, its form sent to the other: the cookie and the form's token are good at both."""
    ada = await rotation.earlier.person("ada")
    session = await rotation.earlier.session(ada, title="Harbour")
    await rotation.earlier.rows("UPDATE chat.users SET is_admin = true, password_hash = $2 WHERE id = $1", ada.id, HASH)
    for chat in (rotation.earlier, rotation.later):
        chat.app.state.passwords = RecordingHasher()
    for (maker, other), action in zip(rotation.both_ways, ("archive", "unarchive"), strict=True):
        first, second = _browser(maker), _browser(other)
        assert (await first.sign_in("ada")).status_code == 303
        second.client.cookies.update(first.client.cookies)

        assert await second.is_signed_in()
        assert second.client.cookies.get(TOKEN_COOKIE) == first.client.cookies.get(TOKEN_COOKIE), "none in its place"
        done = await second.act("sessions", action, session["id"])

        assert done.status_code == 200, done.text
        tampered = {"X-CSRFToken": first.token["X-CSRFToken"][:-2] + "AA"}
        assert (await second.act("sessions", action, session["id"], **tampered)).status_code == 403

    old, new = _browser(rotation.earlier), _browser(rotation.later)
    for browser in (old, new):
        await browser.sign_in("ada")
    async with after_the_rotation(rotation) as after:
        dropped, kept = _browser(after), _browser(after)
        dropped.client.cookies.update(old.client.cookies)
        assert not await dropped.is_signed_in()
        kept.client.cookies.update(new.client.cookies)
        assert (await kept.act("sessions", "archive", session["id"])).status_code == 200


def _browser(chat: ChatApi) -> AdminBrowser:
    return AdminBrowser(httpx.AsyncClient(transport=httpx.ASGITransport(chat.app), base_url=ADDRESS, timeout=30))


async def test_what_the_agent_shows(rotation: Rotation) -> None:
    def shown(key: str) -> dict[str, str]:
        signer = service_signer(key, issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API)
        return {"Authorization": f"Bearer {signer.mint('agent_service')}"}

    async def status(chat: ChatApi, headers: dict[str, str]) -> int:
        return (await chat.client.post(INTROSPECT, json={"key": "cq_unknown"}, headers=headers)).status_code

    for chat in (rotation.earlier, rotation.later):
        assert [await status(chat, shown(key)) for key in (OLD_SERVICE, NEW_SERVICE)] == [200, 200]
        # Each key is good for its own kind alone, the previous ones too.
        assert [await status(chat, shown(key)) for key in (OLD, NEW)] == [401, 401]
    async with after_the_rotation(rotation) as after:
        assert [await status(after, shown(key)) for key in (OLD_SERVICE, NEW_SERVICE)] == [401, 200]


def _signed(subject: str, key: str) -> str:
    now = int(time.time())
    claims = {"iss": "colloquy", "aud": "colloquy", "sub": subject, "typ": "access"}
    parts = [{"alg": "HS256", "typ": "JWT"}, {**claims, "iat": now, "exp": now + 3_600, "jti": "j"}]
    signed = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(key.encode(), signed.encode(), hashlib.sha256)).decode()
    return f"{signed}.{signature.rstrip('=')}"
