"""What only servers that speak OpenAI's API do."""

from __future__ import annotations

import httpx
import pytest

from tests.factories.turns import events_in, text_of, turn
from tests.fakes.scripted_model import ScriptedModelServer


async def said(agent: httpx.AsyncClient, script: str) -> str:
    response = await agent.post("/v1/chat", json=turn(f"[[script {script}]]"))
    return text_of(events_in(response.text))


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("tokens=2 surrogate=pair nul=1 delay_ms=30", "word0 a\ufffdb😀word1 "),
        ("tokens=2 surrogate=pair", "word0 😀word1 "),
        ("tokens=2 surrogate=lone", "word0 a\ufffdbword1 "),
        ("tokens=2 comments=1", "word0 word1 "),
        ("tokens=2 comments=1 crlf=1 burst=2", "word0 word1 "),
    ],
)
async def test_reads_what_such_servers_send(agent: httpx.AsyncClient, script: str, text: str) -> None:
    assert await said(agent, script) == text


async def test_system_messages_keep_their_place(agent: httpx.AsyncClient, scripted_model: ScriptedModelServer) -> None:
    scripted_model.forget()
    body = turn("hi")
    body["messages"].append({"role": "system", "content": "Now be formal."})
    await agent.post("/v1/chat", json=body)
    roles = [item["role"] for item in scripted_model.stats()["requests"][0]["body"]["messages"]]
    assert roles == ["user", "system"]


async def test_a_speaker_is_named_in_the_text(agent: httpx.AsyncClient) -> None:
    body = turn("hi")
    body["messages"][0]["name"] = "ada"
    response = await agent.post("/v1/chat", json=body)
    assert text_of(events_in(response.text)) == "You said: ada: hi"
