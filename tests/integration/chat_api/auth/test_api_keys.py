"""API keys: making, listing, revoking, introspecting."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

from shared.security import ServiceName, service_signer
from tests.factories.accounts import API, AccountsApi, Person, bearer, problem

KEYS = f"{API}/api-keys"
BODY = {"name": "notebook", "scopes": ["chat:read", "chat:write"]}


def _agent(api: AccountsApi) -> dict[str, str]:
    signer = service_signer(
        api.settings.service_key.get_secret_value(), issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API
    )
    return bearer(signer.mint(ServiceName.AGENT_SERVICE))


async def _listed(api: AccountsApi, person: Person) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api.client.get(KEYS, headers=person.headers)).json()["items"]
    return items


async def test_a_key_is_shown_once_and_stored_as_a_hash(api: AccountsApi) -> None:
    ada = await api.person("ada")

    answer = await api.client.post(KEYS, json=BODY, headers=ada.headers)

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    created = answer.json()
    key = created.pop("key")
    assert created == {
        "id": created["id"],
        "name": "notebook",
        "scopes": ["chat:read", "chat:write"],
        "expires_at": None,
        "last_used_at": None,
        "created_at": created["created_at"],
    }
    assert await _listed(api, ada) == [created]
    prefix, key_id, secret = key.split("_", 2)
    assert (prefix, key_id) == ("cq", created["id"].replace("-", ""))
    row = await api.database.fetch_row("SELECT k::text AS stored, secret_hash FROM chat.api_keys k")
    assert row is not None
    assert secret not in row["stored"]
    assert row["secret_hash"] == hashlib.sha256(secret.encode()).digest()


async def test_keys_are_their_owners_alone(api: AccountsApi) -> None:
    ada, bob = await api.person("ada"), await api.person("bob")
    created = await api.api_key(ada, "chat:read")

    assert await _listed(api, bob) == []
    assert problem(await api.client.delete(f"{KEYS}/{created['id']}", headers=bob.headers)) == (
        404,
        "api-key-not-found",
    )
    assert (await api.client.get("/only/read", headers=bearer(created["key"]))).status_code == 200


async def test_a_revoked_key_is_gone(api: AccountsApi) -> None:
    ada = await api.person("ada")
    created, other = await api.api_key(ada, "chat:read"), await api.api_key(ada, "chat:read")

    answer = await api.client.delete(f"{KEYS}/{created['id']}", headers=ada.headers)

    assert answer.status_code == 204
    assert problem(await api.client.get("/only/read", headers=bearer(created["key"])))[0] == 401
    assert (await api.client.get("/only/read", headers=bearer(other["key"]))).status_code == 200
    assert [item["id"] for item in await _listed(api, ada)] == [other["id"]]
    again = await api.client.delete(f"{KEYS}/{created['id']}", headers=ada.headers)
    assert problem(again) == (404, "api-key-not-found")


async def test_unknown_and_malformed_ids_are_refused(api: AccountsApi) -> None:
    ada = await api.person("ada")

    assert problem(await api.client.delete(f"{KEYS}/{uuid4()}", headers=ada.headers)) == (404, "api-key-not-found")
    assert problem(await api.client.delete(f"{KEYS}/7", headers=ada.headers)) == (422, "validation-failed")


async def test_the_list_comes_in_pages_newest_first(api: AccountsApi) -> None:
    ada = await api.person("ada")
    made = [(await api.api_key(ada, "chat:read"))["id"] for _ in range(5)]

    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await api.client.get(KEYS, params=query, headers=ada.headers)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == made[::-1]
    bad = await api.client.get(KEYS, params={"cursor": "WyJ4Il0"}, headers=ada.headers)
    assert problem(bad) == (422, "invalid-cursor")


async def test_only_administrators_make_keys_with_admin(api: AccountsApi) -> None:
    ada, root = await api.person("ada"), await api.admin("root")
    body = {"name": "ops", "scopes": ["admin"]}

    assert problem(await api.client.post(KEYS, json=body, headers=ada.headers)) == (403, "insufficient-scope")
    assert (await api.client.post(KEYS, json=body, headers=root.headers)).status_code == 201


async def test_a_key_manages_keys_only_with_admin_and_never_beyond_itself(api: AccountsApi) -> None:
    root = await api.admin("root")
    reader = bearer((await api.api_key(root, "chat:read", "chat:write", "agent:invoke"))["key"])
    admin = bearer((await api.api_key(root, "admin"))["key"])

    for method, path in (("POST", KEYS), ("GET", KEYS), ("DELETE", f"{KEYS}/{uuid4()}"), ("PATCH", f"{API}/users/me")):
        answer = await api.client.request(method, path, json=BODY, headers=reader)
        assert problem(answer) == (403, "insufficient-scope"), (method, path)
    assert problem(await api.client.post(KEYS, json=BODY, headers=admin)) == (403, "insufficient-scope")
    narrower = await api.client.post(KEYS, json={"name": "ops", "scopes": ["admin"]}, headers=admin)
    assert narrower.status_code == 201


async def test_an_expiry_lies_ahead(api: AccountsApi) -> None:
    ada = await api.person("ada")
    tomorrow = api.clock.now() + timedelta(days=1)

    created = await api.api_key(ada, "chat:read", expires_at=tomorrow.isoformat())

    assert created["expires_at"] == tomorrow.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    for moment in (
        (api.clock.now() - timedelta(seconds=1)).isoformat(),
        (api.clock.now() + timedelta(days=3651)).isoformat(),
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ):
        answer = await api.client.post(KEYS, json={**BODY, "expires_at": moment}, headers=ada.headers)
        assert problem(answer) == (422, "validation-failed"), moment
        assert answer.json()["errors"][0]["loc"] == ["body", "expires_at"]


BAD: list[Any] = [
    {"name": ""},
    {"name": "   "},
    {"name": "n" * 101},
    {"name": "a\x00b"},
    {"name": "\udfff"},
    {"name": None},
    {"scopes": []},
    {"scopes": ["everything"]},
    {"scopes": ["chat:read"] * 5},
    {"scopes": "chat:read"},
    {"scopes": None},
    {"expires_at": "tomorrow"},
    {"expires_at": "2030-01-01T00:00:00"},
    {"user_id": str(uuid4())},
    {"key": "cq_mine"},
]


async def test_bad_input_is_refused(api: AccountsApi) -> None:
    ada = await api.person("ada")
    headers = {**ada.headers, "Content-Type": "application/json"}

    for changed in BAD:
        answer = await api.client.post(KEYS, content=json.dumps({**BODY, **changed}), headers=headers)
        assert problem(answer) == (422, "validation-failed"), changed

    assert await _listed(api, ada) == []


async def test_the_same_request_sent_many_times_makes_one_key(api: AccountsApi) -> None:
    ada = await api.person("ada")
    headers = {**ada.headers, "Idempotency-Key": "once"}

    answers = await asyncio.gather(*(api.client.post(KEYS, json=BODY, headers=headers) for _ in range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers].count("true") == 7
    assert all(answer.headers["cache-control"] == "no-store" for answer in answers)
    assert len(await _listed(api, ada)) == 1
    other = await api.client.post(KEYS, json={**BODY, "name": "other"}, headers=headers)
    assert problem(other) == (422, "idempotency-key-reused")


async def test_the_stored_answer_does_not_give_the_key_away(api: AccountsApi) -> None:
    ada = await api.person("ada")
    headers = {**ada.headers, "Idempotency-Key": "once"}

    key = (await api.client.post(KEYS, json=BODY, headers=headers)).json()["key"]

    row = await api.database.fetch_row("SELECT body FROM chat.idempotency_keys")
    assert row is not None
    assert key.encode() not in row["body"]
    assert b"notebook" not in row["body"]


async def test_an_idempotency_key_is_its_users_own(api: AccountsApi) -> None:
    ada, bob = await api.person("ada"), await api.person("bob")

    first, second = [
        await api.client.post(KEYS, json=BODY, headers={**person.headers, "Idempotency-Key": "once"})
        for person in (ada, bob)
    ]

    assert first.json()["key"] != second.json()["key"]
    assert "idempotent-replayed" not in second.headers


async def test_the_agent_learns_whom_a_key_belongs_to(api: AccountsApi) -> None:
    ada = await api.person("ada")
    created = await api.api_key(ada, "agent:invoke", "chat:read")

    answer = await api.client.post(f"{KEYS}/introspect", json={"key": created["key"]}, headers=_agent(api))

    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"active": True, "user_id": str(ada.id), "scopes": ["agent:invoke", "chat:read"]}


async def test_a_key_that_cannot_be_used_is_not_active(api: AccountsApi) -> None:
    ada = await api.person("ada")
    created = await api.api_key(ada, "agent:invoke")
    await api.client.delete(f"{KEYS}/{created['id']}", headers=ada.headers)

    for key in (created["key"], "x", "cq_", "é", ada.access_token[:200]):
        answer = await api.client.post(f"{KEYS}/introspect", json={"key": key}, headers=_agent(api))
        assert answer.json() == {"active": False, "user_id": None, "scopes": []}
    for body in ({}, {"key": ""}, {"key": "k" * 201}, {"key": "a\x00"}, {"key": 7}, {"key": "x", "more": 1}):
        assert problem(await api.client.post(f"{KEYS}/introspect", json=body, headers=_agent(api)))[0] == 422
