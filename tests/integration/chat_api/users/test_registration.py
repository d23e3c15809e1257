"""Registering: what is accepted, what is refused, and who is first."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.factories.accounts import API, PASSWORD, AccountsApi, problem

ADA = {"email": "ada@example.org", "username": "ada", "password": PASSWORD}
JSON = {"Content-Type": "application/json"}


async def test_a_person_registers_and_sees_themselves(api: AccountsApi) -> None:
    answer = await api.client.post(f"{API}/auth/register", json={**ADA, "user_type": "student"})

    assert answer.status_code == 201
    user = answer.json()
    assert user == {
        "id": user["id"],
        "email": "ada@example.org",
        "username": "ada",
        "user_type": "student",
        "plan": "free",
        "is_admin": False,
        "created_at": user["created_at"],
        "updated_at": user["created_at"],
    }
    assert user["id"][14] == "7"
    assert user["created_at"].endswith("Z")


async def test_the_type_of_user_is_owner_unless_said(api: AccountsApi) -> None:
    answer = await api.client.post(f"{API}/auth/register", json=ADA)

    assert answer.json()["user_type"] == "owner"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"email": "ADA@Example.ORG", "username": "other"}, "email-taken"),
        ({"email": "other@example.org", "username": "AdA"}, "username-taken"),
    ],
)
async def test_names_are_unique_in_any_case(api: AccountsApi, changed: dict[str, str], code: str) -> None:
    await api.client.post(f"{API}/auth/register", json=ADA)

    answer = await api.client.post(f"{API}/auth/register", json={**ADA, **changed})

    assert problem(answer) == (409, code)


async def test_twenty_at_once_give_one_account(api: AccountsApi) -> None:
    answers = await asyncio.gather(*(api.client.post(f"{API}/auth/register", json=ADA) for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    rows = await api.database.fetch_rows("SELECT id FROM chat.users")
    assert len(rows) == 1
    assert await api.connections_held() == 0


BAD: list[Any] = [
    {"email": "not an address"},
    {"email": "a@b\x00.org"},
    {"email": "\ud800@example.org"},
    {"email": "a" * 300 + "@example.org"},
    {"email": None},
    {"username": "ab"},
    {"username": "a" * 33},
    {"username": "a b c"},
    {"username": "ada@example.org"},
    {"username": "ada\n"},
    {"username": "adá"},
    {"username": 7},
    {"username": "assistant"},
    {"username": "System"},
    {"password": "1234567"},
    {"password": "x" * 257},
    {"password": "12345678\x00"},
    {"password": "12345678\ud800"},
    {"user_type": "admin"},
    {"is_admin": True},
    {"plan": "pro"},
    {"id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"},
]


async def test_bad_input_is_refused(api: AccountsApi) -> None:
    for changed in BAD:
        content = json.dumps({**ADA, **changed})  # ASCII escapes: a lone surrogate cannot be sent otherwise

        answer = await api.client.post(f"{API}/auth/register", content=content, headers=JSON)

        assert problem(answer) == (422, "validation-failed"), changed
        assert PASSWORD not in answer.text


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"7", b'"ada"', b"{}"])
async def test_a_body_of_another_shape_is_refused(api: AccountsApi, content: bytes) -> None:
    assert problem(await api.client.post(f"{API}/auth/register", content=content, headers=JSON))[0] == 422


async def test_a_body_that_is_not_json_is_refused(api: AccountsApi) -> None:
    answer = await api.client.post(f"{API}/auth/register", content=b'{"email": ', headers=JSON)

    assert problem(answer) == (400, "malformed-request")
