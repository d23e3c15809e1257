"""Files to import, and what comes back of an export."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.factories.chat import API, ChatApi, Json, Person


def exported(*messages: Json, revisions: Sequence[Json] = (), **session: Any) -> Json:
    """A session as it is exported. Messages are given what they need and do not say."""
    return {
        "format": "colloquy.session",
        "version": 1,
        "session": {"title": "Holiday plans", **session},
        "messages": [{"role": "user", "content": "Hello", **message} for message in messages],
        "revisions": list(revisions),
    }


def node(text: str | None, parent: str | None, role: str = "user", **message: Any) -> Json:
    """One of ChatGPT's tree; without a text it is the root, which says nothing."""
    if text is None:
        return {"parent": parent, "message": None, "children": []}
    content = {"content_type": "text", "parts": [text]}
    said = {"author": {"role": role}, "content": content, "create_time": 1_700_000_000.25, "metadata": {}, **message}
    return {"parent": parent, "message": said, "children": []}


def chatgpt(nodes: Mapping[str, Json], current: str | None, **fields: Any) -> Json:
    mapping = {name: {"id": name, **value} for name, value in nodes.items()}
    return {"title": "Tides", "create_time": 1_700_000_000.0, "mapping": mapping, "current_node": current} | fields


def a_tree() -> Json:
    """A question that was asked twice, the second time with a better answer: five messages, three of them shown."""
    return chatgpt(
        {
            "root": node(None, None),
            "hidden": node(
                "You are ChatGPT", "root", "system", metadata={"is_visually_hidden_from_conversation": True}
            ),
            "first": node("When is low tide?", "hidden"),
            "first-reply": node("At six.", "first", "assistant"),
            "second": node("When is low tide in Husum?", "hidden"),
            "second-reply": node("At seven.", "second", "assistant", metadata={"model_slug": "gpt-4o"}),
            "thanks": node("Thanks!", "second-reply"),
        },
        "thanks",
        conversation_id="tides-1",
    )


async def import_file(
    chat: ChatApi, person: Person, content: object, *, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """As a form. What is not bytes is sent as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await chat.client.post(
        f"{API}/sessions/import",
        files={"file": ("conversations.json", body)},
        headers=person.headers | dict(headers or {}),
    )


async def imported(chat: ChatApi, person: Person, content: object) -> Json:
    answer = await import_file(chat, person, content)
    assert answer.status_code == 201, answer.text
    report: Json = answer.json()
    return report


async def export(chat: ChatApi, person: Person, session_id: str, kind: str = "json") -> httpx.Response:
    return await chat.client.get(f"{API}/sessions/{session_id}/export", params={"format": kind}, headers=person.headers)


async def exported_json(chat: ChatApi, person: Person, session_id: str) -> Json:
    answer = await export(chat, person, session_id)
    assert answer.status_code == 200, answer.text
    document: Json = answer.json()
    return document


def content_of(document: Json) -> Json:
    """What two exports have in common when they are of the same content: messages go by their numbers."""
    seqs = {message["id"]: message["seq"] for message in document["messages"]}
    told = {"id", "participants"}
    return {
        "session": {name: value for name, value in document["session"].items() if name not in told},
        "messages": [
            {
                **{name: value for name, value in message.items() if name != "id"},
                "parent_id": None if message["parent_id"] is None else seqs[message["parent_id"]],
            }
            for message in document["messages"]
        ],
        "revisions": sorted(
            ({**revision, "message_id": seqs[revision["message_id"]]} for revision in document["revisions"]),
            key=lambda revision: (revision["message_id"], revision["revision"]),
        ),
    }
