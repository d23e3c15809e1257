"""The two bound routes take and refuse what their signatures say: compared with FastAPI's own solver."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from chat_api.messages.router import list_messages
from chat_api.runs.router import send_message
from tests.factories.chat import API, ChatApi, Person

BODY = b'{"content": "Hello", "metadata": {"a": [1, 2.5, null]}}'
JSON = {"Content-Type": "application/json"}

SENDS: dict[str, tuple[bytes, dict[str, str]]] = {
    "a plain message": (BODY, JSON),
    "another JSON type": (BODY, {"Content-Type": "application/merge-patch+json; charset=utf-8"}),
    "no content type": (BODY, {}),
    "text": (BODY, {"Content-Type": "text/plain"}),
    "an empty body": (b"", JSON),
    "broken JSON": (b'{"content": ', JSON),
    "bytes that are no text": (b'{"content": "\xff"}', JSON),
    "a list": (b"[]", JSON),
    "null": (b"null", JSON),
    "no content": (b"{}", JSON),
    "an empty text": (b'{"content": ""}', JSON),
    "a number for text": (b'{"content": 5}', JSON),
    "an unknown field": (b'{"content": "x", "role": "system"}', JSON),
    "a NUL": (b'{"content": "a\\u0000b"}', JSON),
    "a lone surrogate": (b'{"content": "\\ud800"}', JSON),
    "a number that is none": (b'{"content": "x", "metadata": {"n": NaN}}', JSON),
    "deep nesting": (b'{"content": "x", "metadata": {"n": ' + b"[" * 40 + b"]" * 40 + b"}}", JSON),
    "nesting beyond all measure": (b"[" * 100_000, JSON),
    "a client id with a space": (b'{"content": "x", "client_id": "a b"}', JSON),
    "an idempotency key": (BODY, JSON | {"Idempotency-Key": "key-1"}),
    "an idempotency key with a space": (BODY, JSON | {"Idempotency-Key": "a b"}),
    "an idempotency key that is too long": (BODY, JSON | {"Idempotency-Key": "k" * 201}),
}

WINDOWS = (
    "",
    "?limit=2",
    "?after_seq=1&limit=1",
    "?before_seq=3",
    "?cursor=b3&limit=1",
    "?limit=0",
    "?limit=101",
    "?limit=two",
    "?limit=",
    "?before_seq=-1",
    "?before_seq=9223372036854775808",
    "?before_seq=1.5",
    "?cursor=zzz",
    "?cursor=b%D9%A3",
    "?before_seq=1&after_seq=1",
    "?limit=2&limit=3",
    "?unknown=1",
)

VOLATILE = ("id", "session_id", "created_at")


@pytest.fixture
def solved(chat: ChatApi) -> str:
    """The same endpoints once more, as ordinary routes."""
    path = "/solved/sessions/{session_id}/messages"
    chat.app.add_api_route(path, send_message, methods=["POST"], status_code=201, response_model=None)
    chat.app.add_api_route(path, list_messages, methods=["GET"], response_model=None)
    return "/solved"


def comparable(answer: httpx.Response) -> tuple[int, Any]:
    body: Any = answer.json()
    if isinstance(body.get("message"), dict):
        body = {name: value for name, value in body["message"].items() if name not in VOLATILE}
    for name in ("request_id", "detail"):
        body.pop(name, None)
    return answer.status_code, body


async def test_sending(chat: ChatApi, ann: Person, solved: str) -> None:
    for case, (content, headers) in SENDS.items():
        session = await chat.session(ann, reply_policy="never")
        other = await chat.session(ann, reply_policy="never")
        bound, ordinary = [
            await chat.client.post(
                f"{prefix}/sessions/{where['id']}/messages", content=content, headers=ann.headers | headers
            )
            for prefix, where in ((API, session), (solved, other))
        ]
        assert comparable(bound) == comparable(ordinary), case


async def test_reading(chat: ChatApi, ann: Person, solved: str) -> None:
    session = await chat.session(ann, reply_policy="never")
    for number in range(4):
        await chat.said(ann, session, f"message {number}")
    for query in WINDOWS:
        path = f"/sessions/{session['id']}/messages{query}"
        bound = await chat.client.get(API + path, headers=ann.headers)
        ordinary = await chat.client.get(solved + path, headers=ann.headers)
        assert comparable(bound) == comparable(ordinary), query


async def test_whose_session(chat: ChatApi, ann: Person, solved: str) -> None:
    for session_id in ("not-an-id", str(ann.id)):
        path = f"/sessions/{session_id}/messages"
        for method, content in (("GET", None), ("POST", BODY)):
            bound, ordinary = [
                await chat.client.request(method, prefix + path, content=content, headers=ann.headers | JSON)
                for prefix in (API, solved)
            ]
            assert comparable(bound) == comparable(ordinary)
            assert bound.status_code in (404, 422)
