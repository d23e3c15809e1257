"""Whatever is sent to any route, the answer is orderly: a problem document, never a fault of ours, never an echo."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chat_api.kit.models import new_id
from shared.security import ServiceName, TokenKind, TokenSigner, service_signer
from tests.factories.attachments import attached
from tests.factories.bad_input import (
    MALFORMED_IDS,
    MARK,
    Attempt,
    bad_bodies,
    bad_fields,
    bad_forms,
    bad_headers,
    bad_parameters,
    bad_uploads,
    check_answer,
    in_turn,
)
from tests.factories.chat import API, ChatApi, Person
from tests.factories.documents import uploaded
from tests.factories.operations import FORM_BODY, JSON_BODY, MULTIPART_BODY, Operation
from tests.factories.tool_calls import tool_call
from tests.factories.webhooks import Webhooks

# Each walk over all operations is one test: it takes seconds, and on a busy machine minutes.
pytestmark = pytest.mark.timeout(600)

NO_IDS = {"emoji", "model_id"}
"""Parameters of paths that name nothing that is stored."""


def ids_in(operation: Operation) -> list[str]:
    return [name for name in operation.path_parameters if name not in NO_IDS]


async def a_conversation(chat: ChatApi, person: Person) -> dict[str, str]:
    session = await chat.session(person)
    said = await chat.said(person, session)
    made = await chat.client.post(
        f"{API}/api-keys", json={"name": "a key", "scopes": ["chat:read"]}, headers=person.headers
    )
    bot, friend = await chat.bot(person), await chat.person()
    await chat.share(person, bot, friend)
    [document] = await uploaded(chat, person, bot)
    attachment = await attached(chat, person)
    call = await tool_call(chat, UUID(session["id"]), UUID(said["run"]["id"]))
    snapshot = await chat.client.post(f"{API}/sessions/{session['id']}/snapshots", json={}, headers=person.headers)
    webhooks = Webhooks(chat)
    hook = await webhooks.make(person)
    return {
        "session_id": session["id"],
        "message_id": said["message"]["id"],
        "run_id": said["run"]["id"],
        "execution_id": str(call),
        "key_id": made.json()["id"],
        "bot_id": bot["id"],
        "user_id": str(friend.id),
        "document_id": document["id"],
        "attachment_id": attachment["id"],
        "snapshot_id": snapshot.json()["id"],
        "webhook_id": hook["id"],
        "delivery_id": (await webhooks.post(person, f"/{hook['id']}/test")).json()["id"],
        "model_id": f"bot:{bot['id']}",
        "emoji": "%F0%9F%91%8D",
    }


def credential(chat: ChatApi, person: Person, operation: Operation) -> dict[str, str]:
    """Whatever opens the route, so that the input itself is what is refused."""
    if operation.security == {"ServiceToken"}:
        signer = service_signer(
            chat.settings.service_key.get_secret_value(),
            issuer=ServiceName.AGENT_SERVICE,
            audience=ServiceName.CHAT_API,
        )
        return {"Authorization": f"Bearer {signer.mint('agent_service')}"}
    return {} if operation.is_public else person.headers


async def try_all(
    chat: ChatApi, person: Person, attempts: Callable[[Operation], Iterator[Attempt]], *, body_type: str | None = None
) -> int:
    values = await a_conversation(chat, person)
    tried = 0
    for operation in chat.operations:
        if body_type is not None and operation.body_type != body_type:
            continue
        for attempt in attempts(operation):
            headers = credential(chat, person, operation)
            answer = await attempt.send(chat.client, operation, operation.url(values), headers)
            check_answer(answer, attempt, operation)
            tried += 1
    return tried


def test_what_is_tried_in_turn_is_all_tried_somewhere(chat: ChatApi) -> None:
    operations = chat.operations
    with_json = [operation for operation in operations if operation.body_type == JSON_BODY]
    fields = {attempt.name.rpartition(": ")[2] for operation in with_json for attempt in bad_fields(operation)}
    queries = {attempt.params.partition("=")[2] for operation in operations for attempt in bad_parameters(operation)}
    headers = {value for operation in operations for attempt in bad_headers(operation) for _, value in attempt.headers}
    unknown = {field for field in fields if field.startswith("unknown field")}

    assert len(unknown) == 9
    assert len({field for field in fields - unknown if not field.startswith("without")}) == 20
    assert len(queries) == 14
    assert len(headers) == 10


async def test_bodies_that_are_not_what_they_should_be(chat: ChatApi, ann: Person) -> None:
    assert await try_all(chat, ann, bad_bodies, body_type=JSON_BODY) > 250


async def test_fields_that_are_not_what_they_should_be(chat: ChatApi, ann: Person) -> None:
    assert await try_all(chat, ann, bad_fields, body_type=JSON_BODY) > 400


async def test_forms_that_are_not_what_they_should_be(chat: ChatApi, ann: Person) -> None:
    assert await try_all(chat, ann, bad_forms, body_type=FORM_BODY) > 15


async def test_uploads_that_are_not_what_they_should_be(chat: ChatApi, ann: Person) -> None:
    assert await try_all(chat, ann, bad_uploads, body_type=MULTIPART_BODY) > 20


async def test_queries_that_are_not_what_they_should_be(chat: ChatApi, ann: Person) -> None:
    def without_deleting(operation: Operation) -> Iterator[Attempt]:
        # What deletes would take the ground from the others.
        if operation.method == "GET":
            yield from bad_parameters(operation)

    assert await try_all(chat, ann, without_deleting) > 150


async def test_headers_that_are_not_what_they_should_be(chat: ChatApi, ann: Person) -> None:
    def without_deleting(operation: Operation) -> Iterator[Attempt]:
        if operation.method == "GET":
            yield from bad_headers(operation)
            return
        body = operation.body_example()
        if operation.takes_idempotency_key:
            content = b"" if body is None else json.dumps(body).encode()
            for attempt in bad_headers(operation):
                yield Attempt(attempt.name, content, headers=attempt.headers, refused=False)

    assert await try_all(chat, ann, without_deleting) > 150


async def test_ids_that_are_malformed(chat: ChatApi, ann: Person) -> None:
    values = await a_conversation(chat, ann)
    # Who may do nothing there learns nothing of what is wrong either.
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", ann.id)
    for operation in chat.operations:
        for name in operation.path_parameters:
            for wrong in in_turn(MALFORMED_IDS, 4, f"{operation} {name}") if name not in NO_IDS else ():
                url = operation.url({**values, name: wrong})
                attempt = Attempt(f"{name} is {wrong[:40]!r}")
                answer = await attempt.send(chat.client, operation, url, credential(chat, ann, operation))
                check_answer(answer, attempt, operation)
                assert answer.status_code == 422, f"{operation}, {wrong!r}: {answer.text}"
            nul = await chat.client.request(operation.method, operation.url({**values, name: "a%00b"}))
            assert nul.status_code == 400, str(operation)


async def test_ids_of_nothing(chat: ChatApi, ann: Person) -> None:
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", ann.id)
    values = await a_conversation(chat, ann)
    others = (str(new_id()), uuid4().hex, uuid4().urn, "0" * 32, "F" * 32)
    for operation in chat.operations:
        for name in ids_in(operation):
            for unknown in (str(uuid4()), *in_turn(others, 1, f"{operation} {name}")):
                answer = await operation.call(
                    chat.client, {**values, name: unknown}, headers=credential(chat, ann, operation)
                )
                check_answer(answer, Attempt(f"{name} is {unknown}"), operation)
                assert answer.status_code == 404, f"{operation}, {unknown}: {answer.text}"


async def test_an_id_of_another_kind_is_an_id_of_nothing(chat: ChatApi, ann: Person) -> None:
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", ann.id)
    values = await a_conversation(chat, ann)
    shuffled = {
        "session_id": values["message_id"],
        "message_id": values["run_id"],
        "run_id": values["session_id"],
        "execution_id": values["run_id"],
        "key_id": values["session_id"],
        "bot_id": values["user_id"],
        "user_id": values["bot_id"],
        "document_id": values["bot_id"],
        "attachment_id": values["document_id"],
        "snapshot_id": values["session_id"],
        "webhook_id": values["delivery_id"],
        "delivery_id": values["webhook_id"],
    }
    for operation in chat.operations:
        for name in ids_in(operation):
            answer = await operation.call(
                chat.client, {**values, name: shuffled[name]}, headers=credential(chat, ann, operation)
            )
            assert answer.status_code == 404, f"{operation}: {answer.text}"


def _part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _signed(header: Any, claims: Any, key: str) -> str:
    text = f"{_part(header)}.{_part(claims)}"
    return f"{text}.{_part(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest())}"


def wrong_credentials(chat: ChatApi, person: Person) -> dict[str, bytes]:
    """Authorization headers that must open nothing."""
    key = chat.settings.secret_key.get_secret_value()
    service_key = chat.settings.service_key.get_secret_value()
    now = chat.clock.now().timestamp()
    claims = {
        "iss": "colloquy", "aud": "colloquy", "sub": str(person.id), "typ": "access", "iat": int(now) - 10,
        "exp": int(now) + 900, "jti": "0123456789abcdef",
    }  # fmt: skip
    head = {"alg": "HS256", "typ": "JWT"}
    good = person.headers["Authorization"].removeprefix("Bearer ")
    service = service_signer(service_key, issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API)
    to_the_agent = service_signer(service_key, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    expired = TokenSigner(
        key,
        kind=TokenKind.ACCESS,
        issuer="colloquy",
        audience="colloquy",
        lifetime=timedelta(minutes=1),
        now=lambda: now - 61,
    )
    tokens = {
        "expired": expired.mint(str(person.id)),
        "forged": _signed(head, claims, "another key that is also long enough to sign with"),
        "signed with the service key": _signed(head, claims, service_key),
        "alg none": f"{_part({**head, 'alg': 'none'})}.{_part(claims)}.",
        "alg none, signed": _signed({**head, "alg": "none"}, claims, key),
        "alg HS384": _signed({**head, "alg": "HS384"}, claims, key),
        "crit": _signed({**head, "crit": ["exp"]}, claims, key),
        "of the agent": service.mint("agent_service"),
        "for the agent": to_the_agent.mint(str(person.id)),
        "wrong kind": _signed(head, {**claims, "typ": "refresh"}, key),
        "without an end": _signed(head, {name: claims[name] for name in claims if name != "exp"}, key),
        "of nobody": _signed(head, {**claims, "sub": MARK}, key),
        "oversized": good + "A" * 5_000,
        "a megabyte": "A" * 1_000_000,
        "a refresh token": f"cqr_{uuid4().hex}_{'A' * 43}",
        "an unknown key": f"cq_{uuid4().hex}_{'A' * 43}",
        "no key": "cq_",
        "no token": MARK,
        "deep": f"{_part(b'[' * 2_500)}.{_part(b'[' * 100)}.x",
        "NUL": "a\x00b",
        "no ASCII": "ünïcödé.ünïcödé.ünïcödé",
    }
    return {
        **{name: b"Bearer " + token.encode() for name, token in tokens.items()},
        "nothing": b"",
        "a scheme alone": b"Bearer",
        "no credential": b"Bearer  ",
        "another scheme": b"Basic " + base64.b64encode(f"{person.username}:{MARK}".encode()),
        "two tokens": f"Bearer {good}, Bearer {good}".encode(),
        "no scheme": good.encode(),
        "no UTF-8": b"Bearer \xff\xfe",
    }


async def test_credentials_that_open_nothing(chat: ChatApi, ann: Person, capsys: pytest.CaptureFixture[str]) -> None:
    values = await a_conversation(chat, ann)
    wrong = wrong_credentials(chat, ann)
    tried = set()
    for operation in chat.operations:
        if operation.is_public or operation.security == {"ServiceToken"}:
            continue
        for name, header in in_turn(list(wrong.items()), 4, operation):
            tried.add(name)
            answer = await chat.client.request(
                operation.method,
                operation.url(values),
                json=operation.body_example(),
                headers=[(b"Authorization", header)],
            )
            check_answer(answer, Attempt(name), operation)
            assert answer.status_code == 401, f"{operation}, {name}: {answer.text}"
            assert answer.headers["www-authenticate"] == "Bearer", f"{operation}, {name}"

    assert tried == set(wrong)
    written = "".join(capsys.readouterr())
    assert "http.request" in written
    secrets = (header.removeprefix(b"Bearer ").decode(errors="replace") for header in wrong.values())
    assert not [secret for secret in secrets if len(secret) > 20 and secret in written]


async def test_a_wrong_password_is_not_shown_or_logged(chat: ChatApi, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "open-sesame-" + "x" * 300
    bodies: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/auth/token", {"data": {"username": "ann", "password": secret}}),
        ("/auth/register", {"json": {"email": secret, "username": "ann", "password": secret, "extra": secret}}),
        ("/auth/refresh", {"json": {"refresh_token": secret}}),
        ("/auth/logout", {"json": {"refresh_token": [secret]}}),
    )
    for path, sent in bodies:
        answer = await chat.client.post(f"{API}{path}", **sent)
        assert answer.status_code == 422, answer.text
        assert "open-sesame" not in answer.text

    assert "open-sesame" not in "".join(capsys.readouterr())
