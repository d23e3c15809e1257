"""Refresh tokens: rotation, reuse, signing out."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import httpx
import pytest

from chat_api.auth.refresh import RefreshTokens
from tests.factories.accounts import API, AccountsApi, Person, bearer, problem

INVALID = (401, "invalid-refresh-token")
REUSED = (401, "refresh-token-reused")


async def _refresh(api: AccountsApi, token: str) -> httpx.Response:
    return await api.client.post(f"{API}/auth/refresh", json={"refresh_token": token})


async def _logout(api: AccountsApi, token: str) -> httpx.Response:
    return await api.client.post(f"{API}/auth/logout", json={"refresh_token": token})


async def test_a_refresh_token_gives_the_next(api: AccountsApi) -> None:
    ada = await api.person("ada")

    first = await _refresh(api, ada.refresh_token)
    second = await _refresh(api, first.json()["refresh_token"])

    assert first.status_code == second.status_code == 200
    assert first.headers["cache-control"] == "no-store"
    assert len({ada.refresh_token, first.json()["refresh_token"], second.json()["refresh_token"]}) == 3
    me = await api.client.get(f"{API}/users/me", headers=bearer(second.json()["access_token"]))
    assert me.json()["username"] == "ada"


async def test_a_replayed_token_ends_its_family_for_good_and_no_other(api: AccountsApi) -> None:
    ada = await api.person("ada")
    elsewhere = (await api.sign_in("ada")).json()["refresh_token"]
    newest = (await _refresh(api, ada.refresh_token)).json()["refresh_token"]

    assert problem(await _refresh(api, ada.refresh_token)) == REUSED

    # The revocation was committed although the answer was an error.
    row = await api.database.fetch_row(
        "SELECT count(*) AS n FROM chat.refresh_families WHERE revoked_reason = 'reuse' AND revoked_at IS NOT NULL"
    )
    assert row is not None
    assert row["n"] == 1
    assert problem(await _refresh(api, newest)) == INVALID
    assert (await _refresh(api, elsewhere)).status_code == 200


async def test_a_token_from_long_ago_is_still_known_as_used(api: AccountsApi) -> None:
    ada = await api.person("ada")
    newest = ada.refresh_token
    for _ in range(5):
        newest = (await _refresh(api, newest)).json()["refresh_token"]

    assert problem(await _refresh(api, ada.refresh_token)) == REUSED
    assert problem(await _refresh(api, newest)) == INVALID


async def test_of_concurrent_uses_exactly_one_wins_and_the_family_ends(api: AccountsApi) -> None:
    ada = await api.person("ada")

    answers = await asyncio.gather(*(_refresh(api, ada.refresh_token) for _ in range(10)))

    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    lost = [problem(answer) for answer in answers if answer.status_code != 200]
    assert lost.count(REUSED) == 1
    assert lost.count(INVALID) == 8
    assert problem(await _refresh(api, won[0].json()["refresh_token"])) == INVALID
    assert await api.connections_held() == 0


async def test_a_token_expires_unless_it_is_used(api: AccountsApi) -> None:
    ada = await api.person("ada")
    api.clock.advance(timedelta(days=29))
    newest = (await _refresh(api, ada.refresh_token)).json()["refresh_token"]
    api.clock.advance(timedelta(days=29))

    newest = (await _refresh(api, newest)).json()["refresh_token"]
    api.clock.advance(timedelta(days=30))

    assert problem(await _refresh(api, newest)) == INVALID


async def test_a_closed_account_cannot_refresh(api: AccountsApi) -> None:
    ada = await api.person("ada")
    await api.close_account(ada)

    assert problem(await _refresh(api, ada.refresh_token)) == INVALID


async def test_signing_out_ends_the_family(api: AccountsApi) -> None:
    ada = await api.person("ada")

    answer = await _logout(api, ada.refresh_token)

    assert answer.status_code == 204
    assert answer.content == b""
    assert problem(await _refresh(api, ada.refresh_token)) == INVALID
    assert (await _logout(api, ada.refresh_token)).status_code == 204


async def test_a_used_token_signs_out_too(api: AccountsApi) -> None:
    ada = await api.person("ada")
    newest = (await _refresh(api, ada.refresh_token)).json()["refresh_token"]

    assert (await _logout(api, ada.refresh_token)).status_code == 204
    assert problem(await _refresh(api, newest)) == INVALID


def _garbage(ada: Person) -> list[str]:
    return [
        "x",
        "cqr_",
        "cqr_" + "0" * 32 + "_" + "A" * 43,
        ada.refresh_token + "A",
        ada.refresh_token[:-1],
        ada.refresh_token.upper(),
        ada.access_token[:200],
        "é" * 100,
        "' OR 1=1 --",
    ]


async def test_garbage_is_refused_and_ends_nothing(api: AccountsApi) -> None:
    ada = await api.person("ada")

    for token in _garbage(ada):
        assert problem(await _refresh(api, token)) == INVALID
        assert (await _logout(api, token)).status_code == 204

    assert (await _refresh(api, ada.refresh_token)).status_code == 200


@pytest.mark.parametrize("route", ["refresh", "logout"])
async def test_what_cannot_be_a_token_is_not_valid(api: AccountsApi, route: str) -> None:
    headers = {"Content-Type": "application/json"}

    for token in ("", "t" * 201, "t" * 100_000, "cqr_\x00", "\ud800", None, 7, ["x"], {"a": 1}):
        content = json.dumps({"refresh_token": token})
        answer = await api.client.post(f"{API}/auth/{route}", content=content, headers=headers)
        assert problem(answer) == (422, "validation-failed"), token


async def test_only_hashes_are_stored(api: AccountsApi) -> None:
    ada = await api.person("ada")
    secret = ada.refresh_token.split("_", 2)[2]

    row = await api.database.fetch_row("SELECT f::text AS stored FROM chat.refresh_families f")

    assert row is not None
    assert secret not in row["stored"]
    assert secret.encode().hex() not in row["stored"]


async def test_expired_families_are_forgotten_and_others_kept(api: AccountsApi) -> None:
    ada = await api.person("ada")
    api.clock.advance(timedelta(days=20))
    young = (await api.sign_in("ada")).json()["refresh_token"]
    api.clock.advance(timedelta(days=11))

    async with api.database.unit() as db:
        forgotten = await RefreshTokens(db, api.clock, api.settings.refresh_token_lifetime).forget_expired()

    assert forgotten == 1
    assert problem(await _refresh(api, ada.refresh_token)) == INVALID
    assert (await _refresh(api, young)).status_code == 200
