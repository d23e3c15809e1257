"""What sockets hear of a reply that waits for a person in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

import pytest

from shared.contracts.chat import ChatEvent, ChatRequest, DeltaEvent
from tests.factories.chat import API, ChatApi, Json, Person
from tests.factories.sockets import SocketClient, connected
from tests.fakes.tool_agent import ToolAgent, Wish

GROWN = ("message.delta", "message.updated")


class Slow(ToolAgent):
    """Speaks slowly enough for others to hear how its words come."""

    async def __call__(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        async for event in super().__call__(request):
            if isinstance(event, DeltaEvent):
                await asyncio.sleep(0.1)
            yield event
            if isinstance(event, DeltaEvent):
                await asyncio.sleep(0.1)


async def approve(chat: ChatApi, person: Person, session: Json) -> None:
    path = f"{API}/sessions/{session['id']}/tool-executions"
    listed = await chat.client.get(path, params={"status": "pending_approval"}, headers=person.headers)
    [execution] = listed.json()["items"]
    answer = await chat.client.post(f"{API}/tool-executions/{execution['id']}/approve", headers=person.headers)
    assert answer.status_code == 200, answer.text


def texts(client: SocketClient) -> list[tuple[int, str]]:
    """Every piece with its offset; -1 for a whole."""
    return [
        (frame["data"]["offset"], frame["data"]["text"])
        if frame["type"] == "message.delta"
        else (-1, frame["data"]["content"])
        for frame in client.frames
        if frame["type"] in GROWN
    ]


async def test_who_follows_throughout_hears_each_piece_once(chat: ChatApi, ann: Person) -> None:
    chat.agent.script = Slow([Wish()], before="May I?")
    session = await chat.session(ann)
    async with connected(chat, ann) as client:
        await client.subscribe(session)
        await chat.send_async(ann, session)
        await client.expect("run.awaiting_approval")
        await approve(chat, ann, session)
        await client.expect("run.completed")
    whole = "May I?\n\nDone."
    assert texts(client) == [(0, "May I?"), (-1, "May I?"), (6, "\n\nDone."), (-1, whole)]


@pytest.mark.parametrize("kept", [True, False], ids=["soon", "days-later"])
async def test_who_comes_while_it_waits_hears_it_grow_again(chat: ChatApi, ann: Person, kept: bool) -> None:
    chat.agent.script = Slow([Wish()], before="May I?")
    session = await chat.session(ann)
    run_id = (await chat.said(ann, session))["run"]["id"]
    if not kept:
        await chat.app.state.redis.commands.delete(f"colloquy:run:{UUID(run_id).hex}")
        chat.engine.streams._ended.clear()
    async with connected(chat, ann) as client:
        await client.subscribe(session)
        await approve(chat, ann, session)
        await client.expect("run.completed")
    assert texts(client) == [(6, "\n\nDone."), (-1, "May I?\n\nDone.")]
