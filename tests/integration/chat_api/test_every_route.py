"""No route answers with another person's data, and none can be forgotten: a walk over the whole document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import WebSocketRoute

from chat_api.auth.permissions import PublicAccess, is_permission
from shared.security import ServiceName, service_signer
from tests.factories.attachments import attached
from tests.factories.chat import API, ChatApi, Person
from tests.factories.documents import become, uploaded
from tests.factories.operations import OPENAI_SHAPED, NotKnownHow, Operation, operations_of
from tests.factories.tool_calls import tool_call
from tests.factories.webhooks import Webhooks

# Each walk over all operations is one test: it takes seconds, and on a busy machine minutes.
pytestmark = pytest.mark.timeout(600)

NOT_OURS = {"openapi", "swagger_ui_html", "swagger_ui_redirect", "redoc_html", "asyncapi", "admin_pages"}
"""The documents themselves, the framework's pages that show one, and the pages that ask for an administrator."""

PAGES = {"show_playground", "get_playground_file"}
"""Pages for people, and what they are made of: no part of the API, so not in its document, and open to everybody."""

SOCKETS = {f"{API}/ws", f"{API}/ws/sessions/{{session_id}}"}
"""They ask who is there once they are open, which `realtime` tests."""

TEXT = "The gold of the harbour is under the oak"
KEY = "ann-used-this-key"
STATEMENTS = {
    "users": "SELECT * FROM chat.users WHERE id = $1",
    "api_keys": "SELECT id, name, scopes, secret_hash, revoked_at, expires_at FROM chat.api_keys WHERE user_id = $1",
    "refresh_families": "SELECT * FROM chat.refresh_families WHERE user_id = $1",
    "idempotency_keys": "SELECT * FROM chat.idempotency_keys WHERE user_id = $1",
    "sessions": "SELECT * FROM chat.sessions WHERE owner_id = $1",
    "bots": "SELECT * FROM chat.bots WHERE owner_id = $1",
    **{
        table: f"SELECT t.* FROM chat.{table} t JOIN chat.bots b ON b.id = t.bot_id WHERE b.owner_id = $1"
        for table in ("bot_shares", "documents")
    },
    "outbox": (
        "SELECT o.topic, o.subject_id, o.payload FROM chat.outbox o WHERE o.subject_id IN (SELECT b.id FROM chat.bots b"
        " WHERE b.owner_id = $1 UNION SELECT d.id FROM chat.documents d WHERE d.uploaded_by = $1)"
    ),
    **{
        table: f"SELECT t.* FROM chat.{table} t JOIN chat.sessions s ON s.id = t.session_id WHERE s.owner_id = $1"
        for table in (
            "participants",
            "messages",
            "message_search",
            "message_vectors",
            "message_vector_queue",
            "message_attachments",
            "message_revisions",
            "runs",
            "session_events",
            "tool_executions",
        )
    },
    "attachments": "SELECT * FROM chat.attachments WHERE owner_id = $1",
    "imports": "SELECT * FROM chat.imports WHERE user_id = $1",
    "snapshots": "SELECT t.* FROM chat.snapshots t JOIN chat.sessions s ON s.id = t.session_id WHERE s.owner_id = $1",
    "snapshot_messages": (
        "SELECT t.* FROM chat.snapshot_messages t JOIN chat.snapshots n ON n.id = t.snapshot_id"
        " JOIN chat.sessions s ON s.id = n.session_id WHERE s.owner_id = $1"
    ),
    "ws_tickets": "SELECT * FROM chat.ws_tickets WHERE user_id = $1",
    "analytics_deltas": "SELECT * FROM chat.analytics_deltas WHERE user_id = $1",
    "analytics_user_days": "SELECT * FROM chat.analytics_user_days WHERE user_id = $1",
    "analytics_days": "SELECT * FROM chat.analytics_days WHERE $1::uuid IS NULL",  # of everybody together
    "audit_log": "SELECT * FROM chat.audit_log WHERE actor_id = $1 OR subject_id = $1",
    # Asking for an answer uses something up; what is used is not what somebody else could read or change.
    "user_days": "SELECT user_id, day FROM chat.user_days WHERE user_id = $1 GROUP BY user_id, day",
    "webhook_endpoints": "SELECT * FROM chat.webhook_endpoints WHERE user_id = $1",
    "webhook_deliveries": (
        "SELECT d.* FROM chat.webhook_deliveries d JOIN chat.webhook_endpoints w ON w.id = d.endpoint_id"
        " WHERE w.user_id = $1"
    ),
}
"""All that belongs to a person. A new table has to be added: the test counts them."""

WITH_PASSWORD = {"erase_me"}
"""They ask for the password again, and these people have none."""

READING_POSTS = {"search_bot", "send_mcp_message"}
"""They change nothing: what they ask for is too long for an address."""

ADMINISTRATORS = {"read_audit_log", "clean_up", "read_global_analytics", "read_global_statistics", "update_user"}
"""They are for administrators alone, who see everything; anybody else is refused whatever they ask for."""

HOLDERS = {"list_api_keys", "list_webhooks", "read_webhook", "list_webhook_deliveries", "export_me"}
"""They read what only the holder of the account may read: a key with `chat:read` does not open them."""

TICKETS = {"create_ws_ticket"}
"""They give whoever may read a ticket to read with."""

NOBODYS_TABLES = {"alembic_version", "plans", "search_backlog", "vector_model"}
"""What belongs to no person: how far migrations and the worker got, and what was configured."""

PEOPLE = {"user_id"}
"""Parameters that name a person. People belong to nobody: everybody may find and name them."""

NOBODYS = PEOPLE | {"emoji"}
"""Parameters whose values are the same for everybody."""


@dataclass
class Belongings:
    """What one person has, as the values of path parameters, and the words that must not leave it."""

    values: dict[str, str]
    secrets: list[str]


async def belongings(chat: ChatApi, person: Person) -> Belongings:
    """A session with a message that was edited, its run and reply, calls of tools that wait, another session that it
    is linked to, a bot with documents that is shared with others, an API key."""
    webhooks = Webhooks(chat)
    hook = await webhooks.make(person, description=f"hook of {person.username}")
    delivery = (await webhooks.post(person, f"/{hook['id']}/test")).json()
    friends = [await chat.person(), await chat.person()]
    bot = await chat.bot(person, name=f"bot of {person.username}", system_prompt=TEXT, visibility="shared")
    for friend in friends:
        await chat.share(person, bot, friend)
    linked = await chat.session(person, title=f"{TEXT} under {person.username}'s oak")
    await chat.said(person, linked, f"{TEXT}, whispers {person.username}")
    session = await chat.session(
        person,
        title=f"{TEXT} of {person.username}",
        tags=[f"tag-{person.username}"],
        related_session_id=linked["id"],
    )
    attachment = await attached(chat, person, f"map of {person.username}.txt", TEXT.encode())
    said = await chat.said(
        person, session, f"{TEXT}, says {person.username}", client_id=KEY, attachment_ids=[attachment["id"]]
    )
    edited = await chat.client.patch(
        f"{API}/sessions/{session['id']}/messages/{said['message']['id']}",
        json={"content": f"{TEXT} no more, says {person.username}"},
        headers=person.headers,
    )
    assert edited.status_code == 200, edited.text
    calls = [
        await tool_call(
            chat,
            UUID(session["id"]),
            UUID(said["run"]["id"]),
            position=position,
            arguments={"url": f"https://example.org/{person.username}-looked-here"},
        )
        for position in range(2)
    ]
    made = await chat.client.post(
        f"{API}/api-keys", json={"name": f"key of {person.username}", "scopes": ["chat:read"]}, headers=person.headers
    )
    assert made.status_code == 201, made.text
    snapshots = [
        await chat.client.post(
            f"{API}/sessions/{session['id']}/snapshots",
            json={"title": f"snapshot of {person.username}"},
            headers=person.headers,
        )
        for _ in range(2)
    ]
    ticket = await chat.client.post(f"{API}/auth/ws-ticket", headers=person.headers)
    assert ticket.status_code == 200, ticket.text
    values = {
        "session_id": session["id"],
        "message_id": said["message"]["id"],
        "run_id": said["run"]["id"],
        "execution_id": str(calls[0]),
        "key_id": made.json()["id"],
        "bot_id": bot["id"],
        "attachment_id": attachment["id"],
        "snapshot_id": snapshots[0].json()["id"],
        "webhook_id": hook["id"],
        "delivery_id": delivery["id"],
        "model_id": f"bot:{bot['id']}",
        "emoji": "%F0%9F%91%8D",
    }
    secrets = [
        *(value for name, value in values.items() if name not in NOBODYS),
        attachment["name"],
        f"snapshot of {person.username}",
        snapshots[1].json()["id"],
        linked["id"],
        f"whispers {person.username}",
        f"{person.username}-looked-here",
        str(calls[1]),
        f"bot of {person.username}",
        said["reply"]["id"],
        made.json()["key"],
        hook["secret"],
        f"hook of {person.username}",
        ticket.json()["ticket"],
        f"{person.username}@example.org",
    ]
    secrets += [f"says {person.username}", f"{TEXT} of {person.username}", f"tag-{person.username}"]
    documents = await uploaded(
        chat, person, bot, *((f"{at} of {person.username}.md", f"{TEXT} {at}".encode()) for at in "ab")
    )
    chat.agent.collections.holds(UUID(bot["id"]), UUID(documents[0]["id"]), f"{TEXT}, says {person.username}", TEXT)
    await become(chat, documents[0], "ready")
    values["document_id"] = documents[0]["id"]
    secrets += [document[name] for document in documents for name in ("id", "name")]
    values["user_id"] = str(friends[0].id)
    return Belongings(values, [*secrets, f"key of {person.username}"])


async def stored(chat: ChatApi, person: Person) -> dict[str, list[Any]]:
    return {
        table: sorted((tuple(row) for row in await chat.rows(statement, person.id)), key=repr)
        for table, statement in STATEMENTS.items()
    }


def operations(chat: ChatApi) -> list[Operation]:
    return chat.operations


def assert_problem(answer: httpx.Response, operation: Operation, *expected: int) -> None:
    assert answer.status_code in expected, f"{operation}: {answer.status_code} {answer.text[:300]}"
    if operation.id in OPENAI_SHAPED:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, str(operation)
        return
    assert answer.headers["content-type"] == "application/problem+json", str(operation)
    assert answer.json()["status"] == answer.status_code, str(operation)


def used_key(operation: Operation) -> dict[str, str]:
    return {"Idempotency-Key": f"{KEY}-for-{operation.id}"}


def permissions_of(dependant: Dependant) -> Iterator[object]:
    if is_permission(dependant.call):
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from permissions_of(dependency)


def test_every_route_says_who_may_call_it_and_the_document_says_the_same(chat: ChatApi) -> None:
    documented = {operation.id: operation for operation in operations(chat)}

    for route in iter_route_contexts(chat.app.routes):
        if isinstance(route.original_route, WebSocketRoute):
            assert route.path in SOCKETS
            continue
        if not isinstance(route.original_route, APIRoute):
            assert route.name in NOT_OURS, f"{route.path} is no API route: nothing checks who may call it"
            continue
        permissions = list(permissions_of(route.dependant))
        assert permissions, f"{route.path} does not say who may call it"
        is_open = all(isinstance(permission, PublicAccess) for permission in permissions)
        if route.name in PAGES:
            assert is_open, f"{route.path} is a page, and not everybody may see it"
            continue
        assert route.name in documented, f"{route.path} is not in the document"
        assert documented[route.name].is_public is is_open, route.path


async def test_every_table_is_watched(chat: ChatApi) -> None:
    rows = await chat.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'chat'")

    assert {row["tablename"] for row in rows} - NOBODYS_TABLES == set(STATEMENTS)


def mixtures(operation: Operation, hers: dict[str, str], his: dict[str, str]) -> Iterator[dict[str, str]]:
    """His session with a message of hers, and the other way round."""
    for name in operation.path_parameters[1:]:
        if name not in NOBODYS:
            yield {**his, name: hers[name]}
            yield {**hers, name: his[name]}


async def test_nobody_reads_or_changes_what_is_anothers(chat: ChatApi, ann: Person, bob: Person) -> None:
    hers = await belongings(chat, ann)
    his = await belongings(chat, bob)
    walked = [operation for operation in operations(chat) if "Bearer" in operation.security]
    for operation in walked:
        if operation.id in ADMINISTRATORS:
            continue
        # He will use the keys that she used: what is stored under them is hers alone.
        if operation.takes_idempotency_key:
            answer = await operation.call(chat.client, hers.values, headers=ann.headers | used_key(operation))
            assert answer.status_code in (201, 202), f"{operation}: {answer.text}"
            hers.secrets.append(answer.json().get("id", hers.values["session_id"]))
    before = await stored(chat, ann)

    for operation in walked:
        answer = await operation.call(chat.client, hers.values, headers=bob.headers | used_key(operation))
        for secret in hers.secrets:
            assert secret not in answer.text, f"{operation} shows {secret!r} to somebody else"
        assert "Idempotent-Replayed" not in answer.headers, str(operation)
        if operation.id in ADMINISTRATORS | WITH_PASSWORD:
            assert_problem(answer, operation, 403)
            continue
        if operation.path_parameters:
            assert_problem(answer, operation, 404)
        else:
            assert answer.status_code < 400, f"{operation}: {answer.status_code} {answer.text[:300]}"
        for mixed in mixtures(operation, hers.values, his.values):
            answer = await operation.call(chat.client, mixed, headers=bob.headers)
            assert_problem(answer, operation, 404)

    assert await stored(chat, ann) == before


async def test_a_cursor_shows_only_what_is_the_callers(chat: ChatApi, ann: Person, bob: Person) -> None:
    hers = await belongings(chat, ann)
    await belongings(chat, ann)
    await belongings(chat, bob)
    walked = 0

    for operation in operations(chat):
        if not any(parameter["name"] == "cursor" for parameter in operation.parameters("query")):
            continue
        if operation.id in ADMINISTRATORS:
            continue
        page = await operation.call(chat.client, hers.values, headers=ann.headers, params={"limit": "1"})
        assert page.status_code == 200, f"{operation}: {page.text}"
        cursor = page.json()["next_cursor"]
        assert cursor, f"{operation} has one page only, so there is no cursor to lend"
        lent = {"cursor": cursor}
        answer = await operation.call(chat.client, hers.values, headers=bob.headers, params=lent)
        assert answer.status_code == (404 if operation.path_parameters else 200), f"{operation}: {answer.text}"
        assert not any(secret in answer.text for secret in hers.secrets), str(operation)
        walked += 1

    assert walked >= 4


async def test_nobody_passes_without_a_credential(chat: ChatApi, ann: Person) -> None:
    hers = await belongings(chat, ann)
    before = await stored(chat, ann)

    for operation in operations(chat):
        if operation.is_public:
            continue
        answer = await operation.call(chat.client, hers.values)
        assert_problem(answer, operation, 401)
        assert answer.headers["www-authenticate"] == "Bearer", str(operation)

    assert await stored(chat, ann) == before


async def test_public_routes_tell_nothing_of_anybody(chat: ChatApi, ann: Person) -> None:
    hers = await belongings(chat, ann)

    for operation in operations(chat):
        if not operation.is_public:
            continue
        answer = await operation.call(chat.client, hers.values)
        assert answer.status_code < 500, f"{operation}: {answer.text}"
        assert not any(secret in answer.text for secret in [*hers.secrets, str(ann.id)]), str(operation)


async def test_a_key_opens_only_what_its_scopes_name(chat: ChatApi, ann: Person) -> None:
    hers = await belongings(chat, ann)

    async def key(*scopes: str) -> dict[str, str]:
        body = {"name": "small", "scopes": scopes}
        made = await chat.client.post(f"{API}/api-keys", json=body, headers=ann.headers)
        return {"Authorization": f"Bearer {made.json()['key']}"}

    elsewhere, reader = await key("agent:invoke"), await key("chat:read")
    before = await stored(chat, ann)
    for operation in operations(chat):
        if operation.is_public or "Bearer" not in operation.security:
            continue
        if operation.id in OPENAI_SHAPED:
            answer = await operation.call(chat.client, hers.values, headers=elsewhere)
            assert answer.status_code == 200, f"{operation}: {answer.text}"
            assert_problem(await operation.call(chat.client, hers.values, headers=reader), operation, 403)
            continue
        refused = await operation.call(chat.client, hers.values, headers=elsewhere)
        assert_problem(refused, operation, 403)
        assert refused.json()["code"] == "insufficient-scope", str(operation)
        answer = await operation.call(chat.client, hers.values, headers=reader)
        is_read = operation.method == "GET" and operation.id not in HOLDERS
        if operation.id not in ADMINISTRATORS and (is_read or operation.id in READING_POSTS | TICKETS):
            assert answer.status_code in (200, 204), f"{operation}: {answer.text}"
        else:
            assert_problem(answer, operation, 403)

    await chat.rows("DELETE FROM chat.ws_tickets WHERE api_key_id IS NOT NULL")  # the reader's own
    await chat.rows("DELETE FROM chat.idempotency_keys WHERE key LIKE 'completion %'")  # the other's own
    assert await stored(chat, ann) == before


async def test_only_administrators_may_do_what_is_theirs(chat: ChatApi, ann: Person, bob: Person) -> None:
    hers = await belongings(chat, ann)
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", bob.id)
    walked = [operation for operation in operations(chat) if operation.id in ADMINISTRATORS]

    for operation in walked:
        refused = await operation.call(chat.client, hers.values, headers=ann.headers)
        assert_problem(refused, operation, 403)
        assert refused.json()["code"] == "admin-required", str(operation)
        answer = await operation.call(chat.client, hers.values, headers=bob.headers)
        assert answer.status_code < 300, f"{operation}: {answer.text}"

    assert {operation.id for operation in walked} == ADMINISTRATORS


async def test_a_person_is_not_taken_for_a_service(chat: ChatApi, ann: Person) -> None:
    signer = service_signer(
        chat.settings.service_key.get_secret_value(), issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API
    )
    service = {"Authorization": f"Bearer {signer.mint(ServiceName.AGENT_SERVICE.value)}"}
    hers = await belongings(chat, ann)

    for operation in operations(chat):
        if operation.is_public:
            continue
        wrong = ann.headers if operation.security == {"ServiceToken"} else service
        assert_problem(await operation.call(chat.client, hers.values, headers=wrong), operation, 401)


async def test_a_member_who_is_not_the_owner_sees_and_may_not_do(chat: ChatApi, ann: Person, bob: Person) -> None:
    hers = await belongings(chat, ann)
    await chat.join({"id": hers.values["session_id"]}, bob)
    await chat.share(ann, {"id": hers.values["bot_id"]}, bob)
    before = await stored(chat, ann)
    bot_owners = {"patch_bot", "delete_bot", "list_bot_shares", "put_bot_share", "delete_bot_share"}
    bot_owners |= {"upload_documents", "create_text_document", "delete_document", "reindex_document"}
    owners = {"patch_session", "delete_session", "archive_session", "unarchive_session", "clear_messages"}
    owners |= {"add_participant", "remove_participant", "put_approval_mode"}
    owners |= {"create_snapshot", "list_snapshots", "restore_snapshot", "delete_snapshot"}
    senders = {"patch_message", "delete_message", "approve_tool_execution", "reject_tool_execution"}
    by_id = {operation.id: operation for operation in operations(chat)}

    for name in sorted(owners | senders | bot_owners):
        answer = await by_id[name].call(chat.client, hers.values, headers=bob.headers)
        assert_problem(answer, by_id[name], 403)

    assert await stored(chat, ann) == before


def test_the_walk_does_not_pass_over_what_it_cannot_fill() -> None:
    spec: dict[str, Any] = {"operationId": "read_pocket", "security": []}
    document = {"paths": {"/pockets/{pocket_id}": {"get": spec}}}
    [operation] = operations_of(document)

    with pytest.raises(NotKnownHow, match="pocket_id"):
        operation.url({"session_id": str(UUID(int=1))})
