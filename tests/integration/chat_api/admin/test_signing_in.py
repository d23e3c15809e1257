"""Who gets in to the admin pages, and what ends that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from chat_api.admin.shield import COOKIE
from tests.factories.admin_pages import HASH, PASSWORD, AdminBrowser, admin_browser, text_of
from tests.factories.chat import API, ChatApi, Person, chat_api
from tests.factories.store_lines import store_line
from tests.fakes.password_hasher import RecordingHasher
from tests.stores import Database

WRONG = "The name or the password is wrong"


async def test_without_a_sign_in_every_page_leads_to_the_form(browser: AdminBrowser) -> None:
    for path in ("", "/", "/sessions/list", "/users/detail?pk=1", "/no/such/page"):
        answer = await browser.client.get(f"/admin{path}", follow_redirects=True)

        assert answer.url.path == "/admin/login", path
        assert "For administrators" in text_of(answer)


async def test_without_a_sign_in_nothing_can_be_done(chat: ChatApi, browser: AdminBrowser, ann: Person) -> None:
    session = await chat.session(ann)
    await browser.open("/login")

    answer = await browser.act("sessions", "archive", session["id"])

    assert answer.status_code == 303
    [row] = await chat.rows("SELECT status FROM chat.sessions")
    assert row["status"] == "active"


async def test_an_administrator_gets_in_by_name_or_address(chat: ChatApi, browser: AdminBrowser) -> None:
    for name in ("ada", " ADA@example.org "):
        browser.client.cookies.clear()
        answer = await browser.sign_in(name)

        assert answer.status_code == 303
        assert answer.headers["location"].endswith("/admin/")
        assert await browser.is_signed_in()
    rows = await chat.rows("SELECT action FROM chat.audit_log")
    assert [row["action"] for row in rows] == ["admin.signed_in"] * 2


async def test_everybody_else_is_told_the_same(
    chat: ChatApi, browser: AdminBrowser, ann: Person, bob: Person, passwords: RecordingHasher
) -> None:
    await chat.rows("UPDATE chat.users SET password_hash = $2 WHERE id = $1", ann.id, HASH)
    await chat.rows(
        "UPDATE chat.users SET password_hash = $2, is_admin = true, is_active = false WHERE id = $1", bob.id, HASH
    )

    for name, password in [
        ("ada", "wrong"),
        ("ann", PASSWORD),
        ("bob", PASSWORD),
        ("nobody", PASSWORD),
        ("", ""),
        ("a" * 5000, "p" * 5000),
        ("ada\x00", PASSWORD),
        ("'; --", PASSWORD),
    ]:
        answer = await browser.sign_in(name, password)

        assert answer.status_code == 400, name
        assert WRONG in text_of(answer)
        assert COOKIE not in answer.cookies
    # A hash is checked for each whose name can be one, so that the time tells nothing either.
    assert passwords.checks == [HASH, None, None, None, None, None]


async def test_what_is_taken_away_while_the_password_is_checked_counts(
    chat: ChatApi, browser: AdminBrowser, ada: Person, passwords: RecordingHasher
) -> None:
    async def demote() -> None:
        await chat.rows("UPDATE chat.users SET is_admin = false WHERE id = $1", ada.id)

    passwords.while_checking = demote

    assert (await browser.sign_in("ada")).status_code == 400


async def test_the_cookie_is_for_these_pages_alone(browser: AdminBrowser) -> None:
    answer = await browser.sign_in("ada")

    [cookie] = [header for header in answer.headers.get_list("set-cookie") if header.startswith(COOKIE)]
    assert {part.lower() for part in cookie.split("; ")[1:]} == {
        "httponly",
        "max-age=28800",
        "path=/admin",
        "samesite=strict",
    }
    value = answer.cookies[COOKIE]
    at_the_api = await browser.client.get(f"{API}/users/me", headers={"Authorization": f"Bearer {value}"})
    assert at_the_api.status_code == 401


async def test_no_other_credential_is_a_cookie(chat: ChatApi, browser: AdminBrowser, ada: Person) -> None:
    access_token = ada.headers["Authorization"].removeprefix("Bearer ")
    for value in (access_token, "x", "a.b.c", "", "🎉".encode().decode("latin-1"), "x" * 5000):
        answer = await browser.client.get("/admin/", headers={b"Cookie": f"{COOKIE}={value}".encode("latin-1")})

        assert answer.status_code == 303


ENDINGS: dict[str, Callable[[ChatApi, Person], Awaitable[object]]] = {
    "the right is taken away": lambda chat, ada: chat.rows(
        "UPDATE chat.users SET is_admin = false WHERE id = $1", ada.id
    ),
    "the account is closed": lambda chat, ada: chat.rows(
        "UPDATE chat.users SET is_active = false WHERE id = $1", ada.id
    ),
    "the password is changed": lambda chat, ada: chat.client.patch(
        f"{API}/users/me",
        json={"password": "another long password", "current_password": PASSWORD},
        headers=ada.headers,
    ),
}


@pytest.mark.parametrize("what", sorted(ENDINGS))
async def test_a_sign_in_ends_at_once_when(what: str, chat: ChatApi, pages: AdminBrowser, ada: Person) -> None:
    assert await pages.is_signed_in()

    await ENDINGS[what](chat, ada)

    assert not await pages.is_signed_in()


async def test_a_sign_in_ends_with_its_time_however_much_it_is_used(chat: ChatApi, pages: AdminBrowser) -> None:
    chat.clock.advance(timedelta(hours=7, minutes=59))
    assert await pages.is_signed_in()

    chat.clock.advance(timedelta(minutes=2))

    assert not await pages.is_signed_in()


async def test_after_signing_out_a_copy_of_the_cookie_is_worth_nothing(chat: ChatApi, pages: AdminBrowser) -> None:
    copy = pages.client.cookies[COOKIE]

    answer = await pages.client.post("/admin/logout", headers=pages.token)

    assert answer.status_code == 303
    assert COOKIE not in pages.client.cookies
    async with admin_browser(chat.app) as thief:
        thief.client.cookies.set(COOKIE, copy)
        assert not await thief.is_signed_in()
    [_, row] = await chat.rows("SELECT action FROM chat.audit_log ORDER BY created_at")
    assert row["action"] == "admin.signed_out"


async def test_signing_out_needs_the_token_and_no_link_does_it(pages: AdminBrowser) -> None:
    assert (await pages.client.get("/admin/logout")).status_code == 405
    assert (await pages.client.post("/admin/logout")).status_code == 403
    assert await pages.is_signed_in()


async def test_signing_in_leads_back_but_never_to_another_host(browser: AdminBrowser) -> None:
    asked = await browser.client.get("/admin/sessions/list?q=harbour")
    wanted = asked.headers["location"].partition("next=")[2]
    assert "sessions" in wanted

    for target, led in [
        ("http://colloquy.test/admin/sessions/list", "http://colloquy.test/admin/sessions/list"),
        ("https://evil.example/admin", "http://colloquy.test/admin/"),
        ("//evil.example", "http://colloquy.test/admin/"),
        ("javascript:alert(1)", "http://colloquy.test/admin/"),
        ("http://colloquy.test/admin/_api/users/row-action?name=close", "http://colloquy.test/admin/"),
    ]:
        browser.client.cookies.clear()
        answer = await browser.sign_in("ada", next=target)
        assert answer.headers["location"] == led


async def test_with_the_store_away_there_is_a_page_that_says_so(clean_database: Database, redis_url: str) -> None:
    async with (
        store_line(clean_database.api_url) as line,
        chat_api(line.url, redis_url) as chat,
        admin_browser(chat.app) as browser,
    ):
        chat.app.state.passwords = RecordingHasher()
        ada = await chat.person("ada")
        await chat.rows("UPDATE chat.users SET is_admin = true, password_hash = $2 WHERE id = $1", ada.id, HASH)
        assert (await browser.sign_in("ada")).status_code == 303
        await line.refuse()

        for path in ("/", "/sessions/list", "/users/detail?pk=1"):
            answer = await browser.client.get(f"/admin{path}")
            assert answer.status_code == 503, path
            assert answer.headers["cache-control"] == "no-store"
        assert (await browser.act("sessions", "archive", "x")).status_code == 503
        browser.client.cookies.delete(COOKIE)
        assert (await browser.sign_in("ada")).status_code == 503
        await line.open()


async def test_guessing_is_slowed_down(clean_database: Database, redis_url: str) -> None:
    async with (
        chat_api(clean_database.api_url, redis_url, sign_ins_per_minute=3) as chat,
        admin_browser(chat.app) as browser,
    ):
        chat.app.state.passwords = RecordingHasher()
        statuses = [(await browser.sign_in("ada", "guess")).status_code for _ in range(4)]
        refused = await browser.sign_in("ada")

    assert statuses == [400, 400, 400, 429]
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
