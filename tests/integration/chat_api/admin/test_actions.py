"""What administrators can do: that it happens, that it is in the audit log, and that nobody else can have it done."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

from tests.factories.admin_pages import HASH, AdminBrowser, admin_browser, text_of
from tests.factories.chat import API, ChatApi, Json, Person


async def audited(chat: ChatApi) -> list[tuple[str, UUID | None, Any]]:
    """All but the sign-ins."""
    rows = await chat.rows(
        "SELECT action, subject_id, details FROM chat.audit_log WHERE action NOT LIKE 'admin.%' ORDER BY created_at, id"
    )
    return [(row["action"], row["subject_id"], row["details"]) for row in rows]


async def account(chat: ChatApi, person: Person) -> Any:
    [row] = await chat.rows("SELECT is_active, is_admin, plan FROM chat.users WHERE id = $1", person.id)
    return tuple(row)


async def test_sessions_are_archived_and_taken_out_again_in_bulk(
    chat: ChatApi, ann: Person, pages: AdminBrowser
) -> None:
    sessions = [await chat.session(ann, title=str(number)) for number in range(3)]
    ids = [session["id"] for session in sessions]
    await pages.act("sessions", "archive", ids[0])

    answer = await pages.act("sessions", "archive", *ids)

    assert answer.status_code == 200, answer.text
    assert "2 of 3 sessions are now archived" in text_of(await pages.open("/sessions/list"))
    refused = await chat.send(ann, sessions[1])
    assert refused.status_code == 409
    events = await chat.rows("SELECT type, data FROM chat.session_events WHERE session_id = $1", UUID(ids[2]))
    assert [(row["type"], row["data"]["changes"]) for row in events] == [("session.updated", {"status": "archived"})]

    await pages.act("sessions", "unarchive", *ids)

    assert (await chat.send(ann, sessions[1])).status_code == 201
    done = await audited(chat)
    assert sorted(done, key=str) == sorted(
        [(action, UUID(key), {}) for action in ("session.archived", "session.unarchived") for key in ids], key=str
    )


async def test_sessions_leave_as_one_file_that_can_be_imported(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    sessions = [await chat.session(ann, title=f"Harbour {number}") for number in range(2)]
    for session in sessions:
        await chat.said(ann, session, f"Hello from {session['title']}")

    answer = await pages.act("sessions", "download", *(session["id"] for session in sessions))

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == 'attachment; filename="colloquy-sessions.json"'
    assert answer.headers["cache-control"] == "no-store"
    exported: list[Json] = json.loads(answer.content)
    assert [one["session"]["title"] for one in exported] == ["Harbour 0", "Harbour 1"]
    assert exported[0]["messages"][0]["content"] == "Hello from Harbour 0"
    assert [entry[:2] for entry in await audited(chat)] == [
        ("session.exported", UUID(session["id"])) for session in sessions
    ]


async def test_what_is_gone_is_not_exported_and_nothing_is_noted(chat: ChatApi, pages: AdminBrowser) -> None:
    for key in ("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f", "x", "'"):
        assert (await pages.act("sessions", "download", key)).status_code == 400
    assert (await pages.act("sessions", "archive", "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f", "x")).status_code == 200

    assert await audited(chat) == []


async def test_nothing_ticked_too_much_ticked_and_everything_at_once_are_refused(
    chat: ChatApi, ann: Person, pages: AdminBrowser
) -> None:
    session = await chat.session(ann)

    assert (await pages.act("sessions", "archive")).status_code == 400
    too_many = await pages.act("sessions", "archive", *([session["id"]] * 101))
    assert too_many.status_code == 400
    everything = await pages.client.post("/admin/_api/sessions/action?name=archive&all=1", headers=pages.token)
    assert everything.status_code == 400
    assert await audited(chat) == []


async def test_an_account_is_closed_and_opened_again(
    chat: ChatApi, ann: Person, ada: Person, pages: AdminBrowser
) -> None:
    key = str(ann.id)
    assert (await pages.act_on("users", "close", key)).status_code == 200

    assert await account(chat, ann) == (False, False, "free")
    assert (await chat.client.get(f"{API}/users/me", headers=ann.headers)).status_code == 401
    assert (await pages.act_on("users", "close", key)).status_code == 400
    assert "closed" in text_of(await pages.open("/users/detail", pk=key))

    assert (await pages.act_on("users", "reopen", key)).status_code == 200
    assert (await account(chat, ann))[0] is True
    assert await audited(chat) == [
        ("user.closed", ann.id, {"before": {"is_active": True}, "after": {"is_active": False}}),
        ("user.reopened", ann.id, {"before": {"is_active": False}, "after": {"is_active": True}}),
    ]


async def test_what_is_being_erased_stays_closed(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    await chat.rows("UPDATE chat.users SET is_active = false, erasure_requested_at = now() WHERE id = $1", ann.id)

    answer = await pages.act_on("users", "reopen", str(ann.id))

    assert answer.status_code == 400
    assert "cannot be opened" in answer.json()["msg"]
    assert await audited(chat) == []


async def test_a_plan_is_changed_for_one_that_there_is(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    assert (await pages.act_on("users", "plan", str(ann.id), plan="pro")).status_code == 200
    for wrong in ("gold", "", "' --"):
        assert (await pages.act_on("users", "plan", str(ann.id), plan=wrong)).status_code == 400

    assert (await account(chat, ann))[2] == "pro"
    usage = await chat.client.get(f"{API}/users/me/usage", headers=ann.headers)
    assert usage.json()["plan"] == "pro"
    assert await audited(chat) == [
        ("user.plan_changed", ann.id, {"from": "free", "to": "pro"}),
    ]


async def test_a_closed_account_keeps_its_plan(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    await pages.act_on("users", "close", str(ann.id))

    assert (await pages.act_on("users", "plan", str(ann.id), plan="pro")).status_code == 400

    assert (await account(chat, ann))[2] == "free"
    assert "Change the plan" not in text_of(await pages.open("/users/detail", pk=str(ann.id)))


async def test_the_right_is_given_and_taken(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    await chat.rows("UPDATE chat.users SET password_hash = $2 WHERE id = $1", ann.id, HASH)
    await pages.act_on("users", "promote", str(ann.id))
    async with admin_browser(chat.app) as hers:
        await hers.sign_in("ann")
        assert await hers.is_signed_in()

        await pages.act_on("users", "demote", str(ann.id))

        assert not await hers.is_signed_in()
        # Nor is a cookie from before good again.
        await pages.act_on("users", "promote", str(ann.id))
        assert not await hers.is_signed_in()
    assert [entry[0] for entry in await audited(chat)] == ["user.made_admin", "user.unmade_admin", "user.made_admin"]


async def test_nobody_closes_or_demotes_themselves(chat: ChatApi, ada: Person, pages: AdminBrowser) -> None:
    for name in ("close", "demote"):
        assert (await pages.act_on("users", name, str(ada.id))).status_code == 400

    assert await account(chat, ada) == (True, True, "free")
    assert await audited(chat) == []


async def test_of_two_who_demote_each_other_one_is_left(chat: ChatApi, ada: Person, pages: AdminBrowser) -> None:
    grace = await chat.person("grace")
    await chat.rows("UPDATE chat.users SET is_admin = true, password_hash = $2 WHERE id = $1", grace.id, HASH)
    async with admin_browser(chat.app) as hers:
        await hers.sign_in("grace")
        await asyncio.gather(
            pages.act_on("users", "demote", str(grace.id)), hers.act_on("users", "demote", str(ada.id))
        )

    rows = await chat.rows("SELECT id FROM chat.users WHERE is_admin")
    assert len(rows) == 1
    assert len(await audited(chat)) == 1


FORGED: dict[str, dict[str, str]] = {
    "no token": {"X-CSRFToken": ""},
    "somebody's token": {"X-CSRFToken": ".eJwFwQkBACAIBLAuJuBRkDgcYP8IbkuTRx.8wkWA8hAM9esN7dTRUad6L-7LBI"},
    "another site": {"Origin": "https://evil.example"},
    "a sandbox": {"Origin": "null"},
    "another site's form": {"Sec-Fetch-Site": "cross-site"},
    "a neighbour's form": {"Sec-Fetch-Site": "same-site"},
}


async def test_what_another_site_sends_is_refused(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    session = await chat.session(ann)

    for how, forged in FORGED.items():
        answer = await pages.act("sessions", "archive", session["id"], **forged)
        assert answer.status_code == 403, how

    assert await audited(chat) == []
    headers = {"Origin": "http://colloquy.test", "Sec-Fetch-Site": "same-origin"}

    assert (await pages.act("sessions", "archive", session["id"], **headers)).status_code == 200


async def test_no_link_does_anything(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    session = await chat.session(ann)

    for path in (
        f"/_api/sessions/action?name=archive&pks={session['id']}",
        f"/_api/users/row-action?name=close&pk={ann.id}",
    ):
        assert (await pages.client.get(f"/admin{path}")).status_code == 405
    assert await audited(chat) == []


async def test_actions_without_a_name_and_links_are_no_actions(ann: Person, pages: AdminBrowser) -> None:
    for path in ("sessions/action", "sessions/action?xname=archive", f"users/row-action?name=&pk={ann.id}"):
        assert (await pages.client.post(f"/admin/_api/{path}", headers=pages.token)).status_code == 400, path
    assert (await pages.act_on("users", "view", str(ann.id))).status_code == 400


async def test_who_was_erased_while_the_page_was_open_is_not_there(
    chat: ChatApi, ann: Person, ada: Person, pages: AdminBrowser
) -> None:
    await chat.rows("DELETE FROM chat.users WHERE id = $1", ann.id)

    for name in ("close", "promote", "plan"):
        assert (await pages.act_on("users", name, str(ann.id), plan="pro")).status_code == 400
    assert (await pages.open("/users/detail", pk=str(ann.id))).status_code == 404
    assert await audited(chat) == []

    await chat.rows("DELETE FROM chat.users WHERE id = $1", ada.id)

    assert (await pages.act_on("users", "promote", str(ann.id))).status_code == 303
