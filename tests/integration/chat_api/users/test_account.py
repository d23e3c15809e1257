"""Reading and changing one's own account."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.factories.accounts import API, PASSWORD, AccountsApi, problem

ME = f"{API}/users/me"
NEW_PASSWORD = "a longer and newer password"


async def test_everybody_sees_themselves(api: AccountsApi) -> None:
    ada, bob = await api.person("ada"), await api.person("bob")

    for person in (ada, bob):
        me = (await api.client.get(ME, headers=person.headers)).json()
        assert (me["id"], me["email"]) == (str(person.id), person.email)
        assert "password_hash" not in me


async def test_a_username_is_changed_alone(api: AccountsApi) -> None:
    ada = await api.person("ada")
    before = (await api.client.get(ME, headers=ada.headers)).json()

    answer = await api.client.patch(ME, json={"username": "ada.lovelace"}, headers=ada.headers)

    assert answer.status_code == 200
    after = answer.json()
    assert after["username"] == "ada.lovelace"
    assert after["updated_at"] > before["updated_at"]
    unchanged = before.keys() - {"username", "updated_at"}
    assert {key: after[key] for key in unchanged} == {key: before[key] for key in unchanged}
    assert (await api.client.get(ME, headers=ada.headers)).json() == after


async def test_only_the_case_of_a_name_may_change(api: AccountsApi) -> None:
    ada = await api.person("ada")

    answer = await api.client.patch(ME, json={"username": "Ada"}, headers=ada.headers)

    assert answer.json()["username"] == "Ada"


async def test_an_empty_patch_changes_nothing(api: AccountsApi) -> None:
    ada = await api.person("ada")

    answer = await api.client.patch(ME, json={}, headers=ada.headers)

    assert answer.status_code == 200
    assert answer.json()["username"] == "ada"


async def test_a_new_address_needs_the_password(api: AccountsApi) -> None:
    ada = await api.person("ada")
    new = {"email": "countess@example.org"}

    without = await api.client.patch(ME, json=new, headers=ada.headers)
    wrong = await api.client.patch(ME, json={**new, "current_password": "guessed"}, headers=ada.headers)
    right = await api.client.patch(ME, json={**new, "current_password": PASSWORD}, headers=ada.headers)

    assert problem(without) == (422, "validation-failed")
    assert problem(wrong) == (403, "wrong-password")
    assert right.json()["email"] == "countess@example.org"
    assert (await api.sign_in("countess@example.org")).status_code == 200


async def test_a_new_password_ends_every_sign_in(api: AccountsApi) -> None:
    ada, bob = await api.person("ada"), await api.person("bob")
    elsewhere = (await api.sign_in("ada")).json()["refresh_token"]
    change = {"password": NEW_PASSWORD, "current_password": PASSWORD}

    answer = await api.client.patch(ME, json=change, headers=ada.headers)

    assert answer.status_code == 200
    for token in (ada.refresh_token, elsewhere):
        refreshed = await api.client.post(f"{API}/auth/refresh", json={"refresh_token": token})
        assert problem(refreshed) == (401, "invalid-refresh-token")
    assert problem(await api.sign_in("ada")) == (401, "invalid-credentials")
    assert (await api.sign_in("ada", NEW_PASSWORD)).status_code == 200
    untouched = await api.client.post(f"{API}/auth/refresh", json={"refresh_token": bob.refresh_token})
    assert untouched.status_code == 200


async def test_a_wrong_current_password_changes_nothing(api: AccountsApi) -> None:
    ada = await api.person("ada")
    change = {"username": "other", "password": NEW_PASSWORD, "current_password": "guessed"}

    answer = await api.client.patch(ME, json=change, headers=ada.headers)

    assert problem(answer) == (403, "wrong-password")
    assert (await api.sign_in("ada")).status_code == 200


async def test_of_two_password_changes_at_once_one_counts(api: AccountsApi) -> None:
    ada = await api.person("ada")

    async def change(password: str) -> int:
        body = {"password": password, "current_password": PASSWORD}
        return (await api.client.patch(ME, json=body, headers=ada.headers)).status_code

    both_checked = asyncio.Barrier(2)

    async def wait_for_the_other() -> None:
        await both_checked.wait()

    api.passwords.while_checking = wait_for_the_other
    statuses = await asyncio.gather(change("first new password"), change("second new password"))
    api.passwords.while_checking = None

    assert sorted(statuses) == [200, 403]


async def test_a_sign_in_that_overlaps_a_password_change_is_refused(api: AccountsApi) -> None:
    ada = await api.person("ada")

    async def change() -> None:
        api.passwords.while_checking = None
        body = {"password": NEW_PASSWORD, "current_password": PASSWORD}
        assert (await api.client.patch(ME, json=body, headers=ada.headers)).status_code == 200

    api.passwords.while_checking = change

    assert problem(await api.sign_in("ada")) == (401, "invalid-credentials")


async def test_taken_names_are_refused(api: AccountsApi) -> None:
    ada = await api.person("ada")
    await api.person("bob")
    address = {"email": "BOB@example.org", "current_password": PASSWORD}

    assert problem(await api.client.patch(ME, json={"username": "BOB"}, headers=ada.headers)) == (409, "username-taken")
    assert problem(await api.client.patch(ME, json=address, headers=ada.headers)) == (409, "email-taken")


BAD: list[Any] = [
    {"is_admin": True},
    {"plan": "pro"},
    {"user_type": "staff"},
    {"id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"},
    {"username": None},
    {"username": ""},
    {"username": "a\x00b"},
    {"email": None, "current_password": PASSWORD},
    {"email": "", "current_password": PASSWORD},
    {"password": None, "current_password": PASSWORD},
    {"password": "short", "current_password": PASSWORD},
    {"password": NEW_PASSWORD},
    {"password": NEW_PASSWORD, "current_password": ""},
    {"password": NEW_PASSWORD, "current_password": "p" * 257},
    [],
    "ada",
]


async def test_bad_input_is_refused(api: AccountsApi) -> None:
    ada = await api.person("ada")

    for body in BAD:
        answer = await api.client.patch(ME, json=body, headers=ada.headers)
        assert problem(answer) == (422, "validation-failed"), body

    assert (await api.client.get(ME, headers=ada.headers)).json()["is_admin"] is False


async def test_a_closed_account_is_gone_for_its_own_tokens(api: AccountsApi) -> None:
    ada = await api.person("ada")
    await api.close_account(ada)

    assert problem(await api.client.get(ME, headers=ada.headers)) == (401, "not-authenticated")
    assert problem(await api.client.patch(ME, json={"username": "back"}, headers=ada.headers))[0] == 401
