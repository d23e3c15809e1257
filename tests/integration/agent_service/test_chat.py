"""`POST /v1/chat` before the scripted model: both remote providers, streams and JSON, and every way to fail."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared.contracts.chat import ChatAnswer, DoneEvent, ErrorEvent, FinishReason, Provider, UsageEvent
from tests.factories.turns import events_in, text_of, turn
from tests.fakes.scripted_model import ScriptedModelServer
from tests.integration.agent_service.conftest import OpenAgent

JSON = {"Accept": "application/json"}
PROVIDERS = ["openai", "google_genai"]
pytestmark = pytest.mark.parametrize("provider", PROVIDERS)


async def stream(agent: httpx.AsyncClient, content: str, provider: str, **model: object) -> list[Any]:
    response = await agent.post("/v1/chat", json=turn(content, provider=provider, **model))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    events: list[Any] = events_in(response.text)
    return events


async def test_streams_a_turn(agent: httpx.AsyncClient, provider: str) -> None:
    events = await stream(agent, "hello there", provider)
    assert text_of(events) == "You said: hello there"
    usage, done = events[-2:]
    assert isinstance(usage, UsageEvent)
    assert usage.usage.completion_tokens == 4
    assert usage.usage.total_tokens == usage.usage.prompt_tokens + 4
    assert isinstance(done, DoneEvent)
    assert done.provider is Provider(provider)
    assert done.finish_reason is FinishReason.STOP
    assert sum(event.type in ("done", "error") for event in events) == 1


async def test_answers_once_in_json(agent: httpx.AsyncClient, provider: str) -> None:
    response = await agent.post("/v1/chat", json=turn("hello", provider=provider), headers=JSON)
    assert response.status_code == 200
    answer = ChatAnswer.model_validate_json(response.content)
    assert answer.text == "You said: hello"
    assert answer.usage is not None
    assert answer.time_to_first_token_ms is not None
    assert answer.time_to_first_token_ms <= answer.latency_ms


async def test_hands_on_what_was_asked(
    agent: httpx.AsyncClient, scripted_model: ScriptedModelServer, provider: str
) -> None:
    scripted_model.forget()
    body = turn("hi [[script key=asked]]", provider=provider, name="some-model", temperature=0.5, max_tokens=77)
    body["system_prompt"] = "Be brief."
    body["messages"].insert(0, {"role": "assistant", "content": "before"})
    await agent.post("/v1/chat", json=body)
    seen = scripted_model.stats()["requests"][0]
    assert seen["model"] == "some-model"
    assert seen["stream"]
    if provider == "openai":
        assert seen["authorized_by"] == "Bearer openai-key"
        assert [item["role"] for item in seen["body"]["messages"]] == ["system", "assistant", "user"]
        assert (seen["body"]["temperature"], seen["body"]["max_tokens"]) == (0.5, 77)
    else:
        assert seen["authorized_by"] == "google-key"
        assert [item["role"] for item in seen["body"]["contents"]] == ["model", "user"]
        assert seen["body"]["systemInstruction"]["parts"] == [{"text": "Be brief."}]
        assert seen["body"]["generationConfig"]["maxOutputTokens"] == 77


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
    ],
)
async def test_says_why_the_model_stopped(
    agent: httpx.AsyncClient, provider: str, finish: str, reason: FinishReason
) -> None:
    events = await stream(agent, f"[[script tokens=2 finish={finish}]]", provider)
    assert events[-1].finish_reason is reason


@pytest.mark.parametrize("form", ["crlf=1", "burst=7", "usage=0"])
async def test_reads_every_wire_form(agent: httpx.AsyncClient, provider: str, form: str) -> None:
    events = await stream(agent, f"[[script tokens=20 {form}]]", provider)
    assert text_of(events) == "".join(f"word{number} " for number in range(20))
    assert any(isinstance(event, UsageEvent) for event in events) == (form != "usage=0")


REFUSALS = [
    (400, 502, "model-rejected"),
    (401, 502, "model-rejected"),
    (403, 502, "model-rejected"),
    (404, 422, "model-not-found"),
    (429, 429, "model-rate-limited"),
    (500, 503, "model-unavailable"),
    (503, 503, "model-unavailable"),
    (504, 504, "model-timeout"),
]


@pytest.mark.parametrize(("said", "status", "code"), REFUSALS)
async def test_a_refusal_is_a_problem(
    agent: httpx.AsyncClient, provider: str, said: int, status: int, code: str
) -> None:
    response = await agent.post("/v1/chat", json=turn(f"[[script status={said}]]", provider=provider), headers=JSON)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "scripted refusal" not in response.text
    assert ("retry-after" in response.headers) == (status in (429, 502, 503, 504))
    events = await stream(agent, f"[[script status={said}]]", provider)
    assert [event.type for event in events] == ["error"]
    assert events[0].problem.code == code


async def test_tries_again_before_the_first_token(
    agent: httpx.AsyncClient, scripted_model: ScriptedModelServer, provider: str
) -> None:
    scripted_model.forget()
    events = await stream(agent, f"[[script status=503 times=2 text=fine key={provider}]]", provider)
    assert text_of(events) == "fine"
    assert scripted_model.stats()["total"] == 3


@pytest.mark.parametrize("fault", ["drop_after=3", "end_after=3", "fail_after=3"])
async def test_a_stream_that_breaks_is_an_error_after_its_text(
    agent: httpx.AsyncClient, scripted_model: ScriptedModelServer, provider: str, fault: str
) -> None:
    scripted_model.forget()
    events = await stream(agent, f"[[script tokens=9 {fault} delay_ms=1]]", provider)
    assert text_of(events) == "word0 word1 word2 "
    assert isinstance(events[-1], ErrorEvent)
    assert events[-1].problem.code == "model-unavailable"
    assert scripted_model.stats()["total"] == 1, "what was said must not be said again"


@pytest.mark.parametrize(("script", "text"), [("silent=1", ""), ("tokens=9 hang_after=2", "word0 word1 ")])
async def test_a_silent_model_is_given_up(open_agent: OpenAgent, provider: str, script: str, text: str) -> None:
    limits = {"model_first_token_seconds": 4 if "hang" in script else 0.3, "model_between_tokens_seconds": 0.3}
    async with open_agent(**limits) as agent:
        events = await stream(agent, f"[[script {script}]]", provider)
    assert text_of(events) == text
    assert events[-1].problem.code == "model-timeout"


async def test_an_unreachable_model_is_a_503(open_agent: OpenAgent, provider: str) -> None:
    nowhere = "http://127.0.0.1:9"
    async with open_agent(openai_base_url=nowhere, google_gemini_base_url=nowhere) as agent:
        response = await agent.post("/v1/chat", json=turn("hi", provider=provider), headers=JSON)
    assert response.status_code == 503
    assert response.json()["code"] == "model-unavailable"
