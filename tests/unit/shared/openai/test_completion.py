"""A turn's events → OpenAI's chunks, or its answer."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from shared.contracts.chat import (
    ChatEvent,
    CitationsEvent,
    DeltaEvent,
    DoneEvent,
    ErrorEvent,
    FinishReason,
    Provider,
    Usage,
    UsageEvent,
)
from shared.contracts.knowledge import CitationData
from shared.contracts.tools import ApprovalRequiredEvent, PausedEvent, ToolCall, ToolCallEvent, ToolRisk
from shared.openai.completion import Completion
from shared.openai.requests import CompletionRequest
from shared.openai.stop import StopSequences
from shared.problems import Problem, ProblemDocument

RUN = uuid.UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
USAGE = UsageEvent(usage=Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12))
DONE = DoneEvent(
    finish_reason=FinishReason.STOP, provider=Provider.LOCAL, model="x", latency_ms=1, time_to_first_token_ms=1
)
PAUSED = PausedEvent(provider="local", model="x", latency_ms=1, time_to_first_token_ms=1)


def completion(**fields: Any) -> Completion:
    body = {"model": "local", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return Completion(CompletionRequest.model_validate(body), run_id=RUN, created=1_700_000_000)


def said(*texts: str) -> list[ChatEvent]:
    return [DeltaEvent(text=text) for text in texts]


def called(name: str, source: str = "caller", problem: ProblemDocument | None = None, **call: Any) -> ToolCallEvent:
    return ToolCallEvent(
        call=ToolCall(id=f"call_{name}", name=name, arguments={"a": 1}, **call),
        source=source,
        risk=ToolRisk.SAFE,
        repeatable=False,
        parameters={},
        index=0,
        count=1,
        problem=problem,
    )


def chunks(reading: Completion, *events: ChatEvent) -> list[dict[str, Any]]:
    return [chunk for event in events for chunk in reading.read(event)]


def deltas(made: list[dict[str, Any]]) -> list[Any]:
    return [choice["delta"] for chunk in made for choice in chunk["choices"]]


def cited(index: int) -> CitationData:
    return CitationData(
        index=index,
        document_id=RUN,
        document_name="harbour.md",
        chunk_id=RUN,
        page=3,
        score=0.5,
        snippet="It closes at ten.",
    )


def test_chunks_have_one_head_and_say_who_speaks_first() -> None:
    made = chunks(completion(), *said("It ", "rains."), USAGE, DONE)

    assert deltas(made) == [{"role": "assistant", "content": ""}, {"content": "It "}, {"content": "rains."}, {}]
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in made} == {
        ("chatcmpl-0198f3a2c4e17d0c8f3e6b1a2d4c5e6f", "chat.completion.chunk", 1_700_000_000, "local")
    }
    assert [chunk["choices"][0]["finish_reason"] for chunk in made] == [None, None, None, "stop"]
    assert not any("usage" in chunk for chunk in made)


def test_usage_comes_last_and_alone_where_it_is_wanted() -> None:
    made = chunks(completion(stream_options={"include_usage": True}), *said("Yes."), USAGE, DONE)

    assert [chunk["usage"] for chunk in made[:-1]] == [None] * (len(made) - 1)
    assert made[-1]["choices"] == []
    assert made[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def test_a_call_is_named_before_its_arguments_and_numbered_throughout() -> None:
    reading = completion()
    made = chunks(reading, *said("Let me look."), called("a", signature="c2ln"), called("b"), USAGE, PAUSED)

    calls = [delta["tool_calls"] for delta in deltas(made) if "tool_calls" in delta]
    assert [[call["index"] for call in each] for each in calls] == [[0], [0], [1], [1]]
    assert calls[0][0]["id"] == "call_a"
    assert calls[0][0]["function"] == {"name": "a", "arguments": ""}
    assert calls[0][0]["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert calls[1] == [{"index": 0, "function": {"arguments": '{"a":1}'}}]
    [choice] = reading.answer()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me look."
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "a", "arguments": '{"a":1}'},
        {"name": "b", "arguments": '{"a":1}'},
    ]


def test_content_is_null_where_there_are_only_calls() -> None:
    reading = completion()
    chunks(reading, called("a"), PAUSED)

    assert reading.answer()["choices"][0]["message"]["content"] is None


def test_only_calls_that_the_caller_can_run_are_the_callers() -> None:
    reading = completion()
    bad = called("bad", problem=Problem().document())

    made = chunks(reading, bad, called("calculator", source="builtin"), called("good"), PAUSED)

    names = [call["function"].get("name") for delta in deltas(made) for call in delta.get("tool_calls", ())]
    assert names == ["good", None]


def test_one_call_at_a_time_for_who_cannot_take_more() -> None:
    reading = completion(parallel_tool_calls=False)
    chunks(reading, called("a"), called("b"), PAUSED)

    assert [call["id"] for call in reading.answer()["choices"][0]["message"]["tool_calls"]] == ["call_a"]


def test_a_pause_that_nobody_here_can_end_is_an_error() -> None:
    reading = completion()
    assert chunks(reading, called("fetch_url", source="builtin"), ApprovalRequiredEvent(call_id="1"), PAUSED) == []

    assert reading.failure is not None
    assert (reading.failure.status, reading.failure.error.error.code) == (403, "tool-needs-approval")


def test_sources_stand_where_the_text_names_them() -> None:
    text = "🙂 It closes at ten [1]. On Sundays too [2, 1], not [7]."
    reading = completion()

    made = chunks(reading, *said(text), CitationsEvent(citations=[cited(1), cited(2), cited(3)]), DONE)

    found = deltas(made)[-2]["annotations"]
    places = [(each["file_citation"]["number"], each["url_citation"]) for each in found]
    assert [(number, text[place["start_index"] : place["end_index"]]) for number, place in places] == [
        (1, "[1]"),
        (1, "[2, 1]"),
        (2, "[2, 1]"),
        (3, ""),
    ]
    assert places[-1][1]["start_index"] == len(text)
    assert places[0][1]["url"] == f"/api/v1/documents/{RUN}"
    assert found[0]["file_citation"]["page"] == 3
    assert reading.answer()["choices"][0]["message"]["annotations"] == found


@pytest.mark.parametrize(
    ("status", "code", "expected", "kind"),
    [
        (422, "model-not-found", 404, "invalid_request_error"),
        (422, "model-not-configured", 404, "invalid_request_error"),
        (422, "context-too-long", 400, "invalid_request_error"),
        (429, "model-rate-limited", 429, "rate_limit_error"),
        (503, "model-unavailable", 503, "server_error"),
    ],
)
def test_a_turn_that_failed_is_not_to_be_tried_again(status: int, code: str, expected: int, kind: str) -> None:
    reading = completion()
    problem = ProblemDocument(title="x", status=status, detail="Why.", code=code)

    chunks(reading, *said("So"), ErrorEvent(problem=problem, retry_after=7))

    assert reading.over
    assert reading.failure is not None
    assert reading.failure.status == expected
    assert reading.failure.headers == {"x-should-retry": "false", "Retry-After": "7"}
    detail = reading.failure.error.error
    assert (detail.message, detail.type, detail.code) == ("Why.", kind, code)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("stop", "text", "expected"),
    [
        (["END"], "one END two", "one "),
        (["END"], "one EN two EEND", "one EN two E"),
        (["b", "abc"], "xabc", "xa"),
        (["c", "abc"], "xabc", "x"),
        (["\n\n"], "a\nb\n\nc", "a\nb"),
        (["never"], "nothing neve", "nothing neve"),
    ],
)
def test_text_is_cut_at_the_first_stop_sequence(stop: list[str], text: str, expected: str, size: int) -> None:
    """However it arrives: of several, the one that is whole first."""
    cutting = StopSequences(stop)
    heard = ""
    for start in range(0, len(text), size):
        heard += cutting.feed(text[start : start + size])
        if cutting.reached:
            break
    else:
        heard += cutting.flush()

    assert heard == expected


def test_a_stop_sequence_ends_the_turn() -> None:
    reading = completion(stop=["END"])

    made = chunks(reading, *said("one E", "ND two"))

    assert reading.over
    assert "".join(delta.get("content", "") for delta in deltas(made)) == "one "
    assert reading.answer()["choices"][0]["finish_reason"] == "stop"
    assert reading.answer()["usage"] is None


def test_what_was_held_back_is_said_before_the_end() -> None:
    for last in (DONE, CitationsEvent(citations=[cited(1)]), called("a")):
        reading = completion(stop=["END"])
        made = chunks(reading, *said("so far EN"), last)
        assert "".join(delta.get("content", "") for delta in deltas(made)) == "so far EN", last.type
