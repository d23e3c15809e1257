"""Signing in with a password."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from tests.factories.accounts import API, PASSWORD, AccountsApi, problem

REFUSED = (401, "invalid-credentials")


@pytest.mark.parametrize("name", ["ada", "ADA", "ada@example.org", "Ada@Example.Org"])
async def test_the_name_is_a_username_or_an_address_in_any_case(api: AccountsApi, name: str) -> None:
    ada = await api.person("ada")

    answer = await api.sign_in(name)

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert tokens["token_type"] == "bearer"
    assert tokens["expires_in"] == 900
    me = await api.client.get(f"{API}/users/me", headers={"Authorization": f"bearer {tokens['access_token']}"})
    assert me.json()["id"] == str(ada.id)


async def test_a_wrong_password_an_unknown_name_and_a_closed_account_are_refused_alike(api: AccountsApi) -> None:
    ada, bob = await api.person("ada"), await api.person("bob")
    await api.close_account(bob)
    api.passwords.checks.clear()

    answers = [
        await api.sign_in(ada.username, "not the password"),
        await api.sign_in("nobody"),
        await api.sign_in("nobody@example.org"),
        await api.sign_in(bob.username),
    ]

    assert [problem(answer) for answer in answers] == [REFUSED] * 4
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)
    # The hasher works each time, and it gets nothing to compare where there is no open account.
    assert [stored is None for stored in api.passwords.checks] == [False, True, True, True]


async def test_no_connection_is_held_while_a_password_is_checked(api: AccountsApi) -> None:
    await api.person("ada")
    held: list[int] = []

    async def look() -> None:
        held.append(await api.connections_held())

    api.passwords.while_checking = look

    assert (await api.sign_in("ada")).status_code == 200
    assert held == [0]


async def test_a_hash_of_old_parameters_is_renewed(api: AccountsApi) -> None:
    ada = await api.person("ada")
    api.passwords.scheme = "v2"

    assert (await api.sign_in("ada")).status_code == 200

    row = await api.database.fetch_row("SELECT password_hash FROM chat.users WHERE id = $1", ada.id)
    assert row is not None
    assert row["password_hash"] == f"v2:{PASSWORD}"
    assert (await api.sign_in("ada")).status_code == 200


async def test_an_account_closed_while_its_password_is_checked_stays_closed(api: AccountsApi) -> None:
    ada = await api.person("ada")

    async def close() -> None:
        await api.close_account(ada)

    api.passwords.while_checking = close

    assert problem(await api.sign_in("ada")) == REFUSED
    assert await _live_families(api, ada.id) == 1  # the one of the fixture's own sign-in


async def test_many_sign_ins_at_once_all_work(api: AccountsApi) -> None:
    ada = await api.person("ada")

    answers = await asyncio.gather(*(api.sign_in("ada") for _ in range(20)))

    assert [answer.status_code for answer in answers] == [200] * 20
    assert len({answer.json()["refresh_token"] for answer in answers}) == 20
    assert await _live_families(api, ada.id) == 21


BAD_FORMS: list[dict[str, str]] = [
    {},
    {"username": "ada"},
    {"password": PASSWORD},
    {"username": "", "password": PASSWORD},
    {"username": "ada", "password": PASSWORD, "grant_type": "client_credentials"},
    {"username": "a\x00da", "password": PASSWORD},
    {"username": "ada", "password": "a\x00"},
    {"username": "a" * 10_000, "password": PASSWORD},
    {"username": "ada", "password": "p" * 10_000},
]


async def test_a_bad_form_is_refused(api: AccountsApi) -> None:
    for form in BAD_FORMS:
        answer = await api.client.post(f"{API}/auth/token", data=form)
        assert problem(answer) == (422, "validation-failed"), form


async def test_what_oauth2_clients_send_besides_is_ignored(api: AccountsApi) -> None:
    await api.person("ada")
    form = {
        "grant_type": "password",
        "username": "ada",
        "password": PASSWORD,
        "scope": "chat:read",
        "client_id": "docs",
        "client_secret": "",
        "audience": "colloquy",
    }

    assert (await api.client.post(f"{API}/auth/token", data=form)).status_code == 200


async def test_json_is_not_a_form(api: AccountsApi) -> None:
    answer = await api.client.post(f"{API}/auth/token", json={"username": "ada", "password": PASSWORD})

    assert problem(answer)[0] == 422


async def test_neither_passwords_nor_tokens_are_logged(
    api: AccountsApi, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from structlog.testing import capture_logs

    with capture_logs() as events:
        ada = await api.person("ada")
        await api.sign_in("ada", "a wrong password")
        await api.client.post(f"{API}/auth/refresh", json={"refresh_token": ada.refresh_token})
        await api.client.post(f"{API}/auth/refresh", json={"refresh_token": ada.refresh_token})
        key = (await api.api_key(ada, "chat:read"))["key"]

    assert {event["event"] for event in events} >= {
        "user.registered",
        "sign_in.accepted",
        "sign_in.refused",
        "refresh_token.reused",
        "api_key.created",
    }
    logged = repr(events) + repr(capfdbinary.readouterr())
    for secret in (PASSWORD, "a wrong password", ada.access_token, ada.refresh_token, key, ada.email):
        assert secret not in logged


async def _live_families(api: AccountsApi, user_id: UUID) -> int:
    rows = await api.database.fetch_rows(
        "SELECT id FROM chat.refresh_families WHERE user_id = $1 AND revoked_at IS NULL", user_id
    )
    return len(rows)
