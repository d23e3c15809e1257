"""The client of the agent over real connections: they break, stay silent and are closed in time."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from chat_api.clients.agent import AgentBrokeOff, AgentUnavailable, HttpAgent
from chat_api.config import ApiSettings
from shared.contracts.chat import ChatMessage, ChatRequest, ChatRole, DeltaEvent
from shared.problems import Problem
from shared.settings import Environment
from tests.fakes.agent import DONE

TURN = ChatRequest(
    run_id=UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"), messages=[ChatMessage(role=ChatRole.USER, content="Hi")]
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
SO = b'event: delta\ndata: {"type":"delta","text":"So"}\n\n'
END = f"event: done\ndata: {DONE.model_dump_json()}\n\n".encode()

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@asynccontextmanager
async def served(answer: Answer, **fields: Any) -> AsyncIterator[HttpAgent]:
    """A client of a server that reads one request a connection, then answers as it is told."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert length is not None
            await reader.readexactly(int(length[1]))
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    agent = HttpAgent(ApiSettings(environment=Environment.TEST, agent_url=f"http://127.0.0.1:{port}", **fields))
    try:
        yield agent
    finally:
        await agent.close()
        server.close()
        await server.wait_closed()


async def spoken(agent: HttpAgent) -> tuple[str, Problem | None]:
    """What was said, and the problem that it ended with."""
    text = ""
    try:
        async for event in agent.chat(TURN):
            text += event.text if isinstance(event, DeltaEvent) else ""
    except Problem as problem:
        return text, problem
    return text, None


async def test_a_turn() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(SO) + chunk(SO) + chunk(END) + b"0\r\n\r\n")
        await writer.drain()

    async with served(answer) as agent:
        for _ in range(3):
            assert await spoken(agent) == ("SoSo", None)


@pytest.mark.parametrize(
    "sent", [HEAD, HEAD + b"5", HEAD + chunk(SO), HEAD + chunk(SO[:20]), HEAD + chunk(SO) + b"a\r\nxx"]
)
async def test_a_connection_that_breaks_after_the_head_broke_off(sent: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()

    async with served(answer) as agent:
        text, problem = await spoken(agent)
    assert isinstance(problem, AgentBrokeOff)
    assert text == ("So" if chunk(SO) in sent else "")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 O", b"nonsense\r\n\r\n"])
async def test_a_connection_that_breaks_before_its_head_is_unavailable(sent: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()

    async with served(answer) as agent:
        text, problem = await spoken(agent)
    assert (text, type(problem)) == ("", AgentUnavailable)


async def test_silence_has_an_end() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(SO))
        await writer.drain()
        await reader.read()

    async with served(answer, agent_silence_seconds=0.1) as agent:
        async with asyncio.timeout(30):
            text, problem = await spoken(agent)
    assert (text, type(problem)) == ("So", AgentBrokeOff)


async def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))  # not listening
        url = f"http://127.0.0.1:{holder.getsockname()[1]}"
        agent = HttpAgent(ApiSettings(environment=Environment.TEST, agent_url=url))
        text, problem = await spoken(agent)
        await agent.close()
    assert (text, type(problem)) == ("", AgentUnavailable)


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_leaving_closes_the_connection(how: str) -> None:
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(SO))
        await writer.drain()
        while await reader.read(1024):
            pass
        gone.set()

    async with served(answer) as agent:
        events = agent.chat(TURN)
        assert await anext(events) == DeltaEvent(text="So")
        if how == "cancelled":
            waiting = asyncio.create_task(anext(events))
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        else:
            await events.aclose()
        async with asyncio.timeout(30):
            await gone.wait()
