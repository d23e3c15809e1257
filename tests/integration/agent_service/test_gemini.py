"""What only Gemini does."""

from __future__ import annotations

import httpx

from tests.factories.turns import events_in, text_of, turn


async def test_a_blocked_prompt_is_a_content_filter(agent: httpx.AsyncClient) -> None:
    response = await agent.post("/v1/chat", json=turn("[[script block=1]]", provider="google_genai"))
    events = events_in(response.text)
    assert text_of(events) == ""
    assert events[-1].model_dump()["finish_reason"] == "content_filter"


async def test_a_conversation_of_system_messages_alone_is_answered(agent: httpx.AsyncClient) -> None:
    body = turn("", provider="google_genai")
    body["messages"] = [{"role": "system", "content": "Introduce yourself."}, {"role": "user", "content": ""}]
    response = await agent.post("/v1/chat", json=body)
    assert text_of(events_in(response.text)) == "You said: Introduce yourself."
