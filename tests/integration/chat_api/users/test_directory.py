"""The list of people."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories.accounts import API, AccountsApi, Person, problem

USERS = f"{API}/users"


async def _names(api: AccountsApi, caller: Person, **query: Any) -> list[str]:
    answer = await api.client.get(USERS, params=query, headers=caller.headers)
    assert answer.status_code == 200, answer.text
    return [item["username"] for item in answer.json()["items"]]


async def test_others_are_seen_without_anything_private(api: AccountsApi) -> None:
    ada, bob = await api.person("ada"), await api.person("bob")

    answer = await api.client.get(USERS, params={"q": "bo"}, headers=ada.headers)

    assert answer.json() == {
        "items": [{"id": str(bob.id), "username": "bob", "user_type": "owner"}],
        "next_cursor": None,
    }


async def test_q_is_the_beginning_of_the_name_in_any_case(api: AccountsApi) -> None:
    ada = await api.person("ada")
    for name in ("Bob", "bobby", "robob", "a_b", "axb"):
        await api.person(name)

    assert await _names(api, ada, q="bO") == ["Bob", "bobby"]
    assert await _names(api, ada, q="") == ["a_b", "ada", "axb", "Bob", "bobby", "robob"]


@pytest.mark.parametrize("q", ["%", "_", "a%", "a_x", "\\", "'", "é", "bob\x7f", "zzz", "\U0010ffff"])
async def test_nothing_in_q_is_a_wildcard(api: AccountsApi, q: str) -> None:
    ada = await api.person("ada")
    await api.person("axx")

    assert await _names(api, ada, q=q) == []


async def test_closed_accounts_are_not_listed(api: AccountsApi) -> None:
    ada, bob = await api.person("ada"), await api.person("bob")
    await api.close_account(bob)

    assert await _names(api, ada) == ["ada"]


async def test_pages_follow_each_other_while_people_come(api: AccountsApi) -> None:
    ada = await api.person("ada")
    for number in range(6):
        await api.person(f"b{number:03}")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query: dict[str, Any] = {"q": "b", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await api.client.get(USERS, params=query, headers=ada.headers)).json()
        seen += [item["username"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        if len(seen) == 2:
            await api.person("b0015")  # sorts after the place where we are
            await api.person("b000-early")  # and this before it

    assert seen == ["b000", "b001", "b0015", "b002", "b003", "b004", "b005"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "0"}, "validation-failed"),
        ({"limit": "101"}, "validation-failed"),
        ({"limit": "x"}, "validation-failed"),
        ({"q": "q" * 65}, "validation-failed"),
        ({"cursor": "x"}, "invalid-cursor"),
        ({"cursor": "WzFd"}, "invalid-cursor"),
        ({"cursor": "é"}, "invalid-cursor"),
        ({"cursor": "c" * 513}, "validation-failed"),
    ],
)
async def test_bad_queries_are_refused(api: AccountsApi, query: dict[str, str], code: str) -> None:
    ada = await api.person("ada")

    assert problem(await api.client.get(USERS, params=query, headers=ada.headers)) == (422, code)


async def test_a_page_reads_only_its_range_of_the_index(api: AccountsApi) -> None:
    await api.database.fetch_rows(
        """
        INSERT INTO chat.users (id, email, username, password_hash)
        SELECT uuidv7(), 'p' || n || '@example.org', 'p' || n, 'v1:x' FROM generate_series(1, 5000) n
        """
    )
    rows = await api.database.fetch_rows(
        """
        EXPLAIN (COSTS OFF) SELECT * FROM chat.users
        WHERE is_active AND lower(username) >= 'p77' AND lower(username) < 'p77\x7f'
        ORDER BY lower(username) LIMIT 51
        """
    )
    plan = "\n".join(row[0] for row in rows)

    assert "uq_users_lower_username" in plan
    assert "Index Cond" in plan
