"""Who may pass: access tokens, API keys and their scopes, administrators, the agent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.security import ServiceName, TokenKind, TokenSigner, service_signer
from tests.factories.accounts import API, AccountsApi, Person, bearer, problem

ANONYMOUS = (401, "not-authenticated")
OTHER_KEY = "another key that is also long enough to sign with"


def _signed(claims: dict[str, Any], key: str, header: dict[str, Any] | None = None) -> str:
    """A token made by hand, so that any header and any claim can be in it."""
    parts = [header or {"alg": "HS256", "typ": "JWT"}, claims]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    signature = hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _claims(api: AccountsApi, subject: str, **changed: Any) -> dict[str, Any]:
    now = int(api.clock.now().timestamp())
    claims = {
        "iss": "colloquy",
        "aud": "colloquy",
        "sub": subject,
        "typ": "access",
        "iat": now,
        "exp": now + 900,
        "jti": uuid4().hex,
    }
    return {key: value for key, value in {**claims, **changed}.items() if value is not None}


def _forgeries(api: AccountsApi, ada: Person) -> dict[str, str]:
    key = api.settings.secret_key.get_secret_value()
    good = _claims(api, str(ada.id))
    header, payload, signature = ada.access_token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return {
        "another key": _signed(good, OTHER_KEY),
        "alg none": f"{none}.{payload}.",
        "alg none, signature kept": f"{none}.{payload}.{signature}",
        "alg HS512": _signed(good, key, {"alg": "HS512", "typ": "JWT"}),
        "alg RS256": _signed(good, key, {"alg": "RS256", "typ": "JWT"}),
        "crit": _signed(good, key, {"alg": "HS256", "crit": ["exp"]}),
        "no alg": _signed(good, key, {"typ": "JWT"}),
        "expired": _signed(_claims(api, str(ada.id), exp=good["iat"] - 1), key),
        "expires never": _signed(_claims(api, str(ada.id), exp=None), key),
        "expires in words": _signed(_claims(api, str(ada.id), exp="tomorrow"), key),
        "no subject": _signed(_claims(api, str(ada.id), sub=None), key),
        "subject is no id": _signed(_claims(api, "ada"), key),
        "no jti": _signed(_claims(api, str(ada.id), jti=None), key),
        "no iat": _signed(_claims(api, str(ada.id), iat=None), key),
        "other kind": _signed(_claims(api, str(ada.id), typ="service"), key),
        "no kind": _signed(_claims(api, str(ada.id), typ=None), key),
        "other issuer": _signed(_claims(api, str(ada.id), iss="somebody"), key),
        "other audience": _signed(_claims(api, str(ada.id), aud="agent_service"), key),
        "service token": service_signer(
            api.settings.service_key.get_secret_value(),
            issuer=ServiceName.AGENT_SERVICE,
            audience=ServiceName.CHAT_API,
        ).mint(str(ada.id)),
        "signature cut": f"{header}.{payload}.{signature[:-2]}",
        "no signature": f"{header}.{payload}.",
        "two parts": f"{header}.{payload}",
        "oversized": ada.access_token + "A" * 5000,
        "refresh token": ada.refresh_token,
        "not base64": "!!.!!.!!",
        "not json": "YQ.YQ.YQ",
        "list": "W10.W10.W10",
        "deep": base64.urlsafe_b64encode(b"[" * 1500).decode() + ".e30.e30",
    }


async def test_a_token_made_by_hand_passes_when_nothing_is_wrong_with_it(api: AccountsApi) -> None:
    ada = await api.person("ada")
    token = _signed(_claims(api, str(ada.id)), api.settings.secret_key.get_secret_value())

    answer = await api.client.get("/only/read", headers=bearer(token))

    assert answer.json() == {"user_id": str(ada.id), "api_key_id": None}


async def test_forged_tokens_are_refused(api: AccountsApi) -> None:
    ada = await api.person("ada")

    for name, token in _forgeries(api, ada).items():
        answer = await api.client.get("/only/read", headers=bearer(token))
        assert problem(answer) == ANONYMOUS, name
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer  ",
        b"Basic YTpi",
        b"Token x",
        b"Bearer \xff\xfe",
        b"Bearer \xc3\xa9.a.a",
        b"x" * 9000,
    ],
)
async def test_headers_without_a_token_are_refused(api: AccountsApi, header: bytes) -> None:
    assert problem(await api.client.get("/only/read", headers={b"Authorization": header})) == ANONYMOUS


async def test_no_header_is_refused_everywhere(api: AccountsApi) -> None:
    for method, path in (
        ("GET", f"{API}/users/me"),
        ("PATCH", f"{API}/users/me"),
        ("GET", f"{API}/users"),
        ("POST", f"{API}/api-keys"),
        ("GET", f"{API}/api-keys"),
        ("DELETE", f"{API}/api-keys/{uuid4()}"),
        ("POST", f"{API}/api-keys/introspect"),
        ("GET", "/only/administer"),
    ):
        assert problem(await api.client.request(method, path)) == ANONYMOUS, (method, path)


async def test_a_token_ends_with_its_time_although_it_is_remembered(api: AccountsApi) -> None:
    ada = await api.person("ada")
    api.clock.advance(timedelta(minutes=14, seconds=50))
    assert (await api.client.get("/only/read", headers=ada.headers)).status_code == 200

    api.clock.advance(timedelta(seconds=11))

    assert problem(await api.client.get("/only/read", headers=ada.headers)) == ANONYMOUS


async def test_a_verified_token_costs_no_statement(api: AccountsApi) -> None:
    ada = await api.person("ada")
    await api.database.close()

    assert (await api.client.get("/only/read", headers=ada.headers)).status_code == 200
    assert (await api.client.get("/only/write", headers=ada.headers)).status_code == 200


async def test_each_scope_opens_its_own_door_only(api: AccountsApi) -> None:
    root = await api.admin("root")
    doors = {"chat:read": "read", "chat:write": "write", "agent:invoke": "invoke", "admin": "administer"}

    for scope, own in doors.items():
        created = await api.api_key(root, scope)
        for door in doors.values():
            answer = await api.client.get(f"/only/{door}", headers=bearer(created["key"]))
            if door == own:
                assert answer.json() == {"user_id": str(root.id), "api_key_id": created["id"]}
            else:
                assert problem(answer) == (403, "insufficient-scope"), (scope, door)


async def test_administrators_are_looked_up_each_time(api: AccountsApi) -> None:
    ada, root = await api.person("ada"), await api.admin("root")
    key = (await api.api_key(root, "admin"))["key"]
    assert problem(await api.client.get("/only/administer", headers=ada.headers)) == (403, "admin-required")
    for headers in (root.headers, bearer(key)):
        assert (await api.client.get("/only/administer", headers=headers)).status_code == 200

    await api.database.fetch_row("UPDATE chat.users SET is_admin = false WHERE id = $1", root.id)

    for headers in (root.headers, bearer(key)):
        assert problem(await api.client.get("/only/administer", headers=headers)) == (403, "admin-required")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE chat.api_keys SET revoked_at = now()",
        "UPDATE chat.users SET is_active = false",
        "UPDATE chat.api_keys SET secret_hash = sha256('another')",
        "DELETE FROM chat.users",
    ],
)
async def test_a_key_that_is_no_longer_live_is_refused_at_once(api: AccountsApi, change: str) -> None:
    ada = await api.person("ada")
    key = (await api.api_key(ada, "chat:read"))["key"]
    assert (await api.client.get("/only/read", headers=bearer(key))).status_code == 200

    await api.database.fetch_row(change)

    assert problem(await api.client.get("/only/read", headers=bearer(key))) == ANONYMOUS


async def test_a_key_expires(api: AccountsApi) -> None:
    ada = await api.person("ada")
    expires_at = (api.clock.now() + timedelta(days=1)).isoformat()
    key = (await api.api_key(ada, "chat:read", expires_at=expires_at))["key"]
    assert (await api.client.get("/only/read", headers=bearer(key))).status_code == 200

    api.clock.advance(timedelta(days=1, seconds=1))

    assert problem(await api.client.get("/only/read", headers=bearer(key))) == ANONYMOUS


async def test_what_looks_like_a_key_is_refused(api: AccountsApi) -> None:
    ada = await api.person("ada")
    key = (await api.api_key(ada, "chat:read"))["key"]
    head, middle, secret = key.split("_", 2)
    wrong = [
        "cq_",
        f"{head}_{middle}_{'A' * 43}",
        f"{head}_{uuid4().hex}_{secret}",
        key[:-1],
        key + "A",
        key.upper(),
        f"{head}_{middle}_",
        "cq_" + "a" * 9000,
    ]

    for text in wrong:
        assert problem(await api.client.get("/only/read", headers=bearer(text))) == ANONYMOUS, text


async def test_the_use_of_a_key_is_noted_once_a_minute(api: AccountsApi) -> None:
    ada = await api.person("ada")
    key = (await api.api_key(ada, "chat:read"))["key"]

    async def last_used() -> Any:
        row = await api.database.fetch_row("SELECT last_used_at FROM chat.api_keys")
        assert row is not None
        return row["last_used_at"]

    assert await last_used() is None
    await api.client.get("/only/read", headers=bearer(key))
    first = await last_used()
    assert first is not None
    api.clock.advance(timedelta(seconds=50))
    await api.client.get("/only/read", headers=bearer(key))
    assert await last_used() == first
    api.clock.advance(timedelta(seconds=11))
    await api.client.get("/only/read", headers=bearer(key))
    assert await last_used() > first


async def test_only_the_agents_own_token_introspects(api: AccountsApi) -> None:
    ada = await api.person("ada")
    service_key = api.settings.service_key.get_secret_value()
    wrong_way = service_signer(service_key, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    other_kind = TokenSigner(
        service_key,
        kind=TokenKind.ACCESS,
        issuer=ServiceName.AGENT_SERVICE,
        audience=ServiceName.CHAT_API,
        lifetime=timedelta(minutes=5),
    )
    expired = service_signer(
        service_key,
        issuer=ServiceName.AGENT_SERVICE,
        audience=ServiceName.CHAT_API,
        now=lambda: api.clock.now().timestamp() - 301,
    )
    key = (await api.api_key(ada, "chat:read"))["key"]

    for token in (ada.access_token, key, wrong_way.mint("x"), other_kind.mint("x"), expired.mint("x"), "é"):
        answer = await api.client.post(
            f"{API}/api-keys/introspect", json={"key": key}, headers={b"Authorization": f"Bearer {token}".encode()}
        )
        assert problem(answer) == ANONYMOUS
