"""The turn: what it measures, retries, cleans, paces, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from agent_service.application.metrics import TurnMetrics
from agent_service.application.run_turn import ModelDefaults, TurnLimits, TurnRunner
from agent_service.domain.problems import (
    ContextTooLong,
    ModelProblem,
    ModelRateLimited,
    ModelRejected,
    ModelUnavailable,
)
from agent_service.domain.turn import Finished, TextPiece, UsageReport
from shared.contracts.chat import (
    ChatEvent,
    ChatImage,
    ChatMessage,
    ChatRequest,
    ChatRole,
    DeltaEvent,
    DoneEvent,
    ErrorEvent,
    FinishReason,
    ImageType,
    ModelChoice,
    Provider,
    Usage,
    UsageEvent,
)
from tests.fakes.chat_model import FakeChatModel, ModelStep
from tests.fakes.tools import turn_tools

RUN = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
USAGE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
STOP = Finished(FinishReason.STOP)
FAST = TurnLimits(retry_base=0.001, delta_interval=0.0)


def runner(model: FakeChatModel, limits: TurnLimits = FAST) -> TurnRunner:
    return TurnRunner(
        {Provider.OPENAI: model},
        defaults=ModelDefaults(
            provider=Provider.OPENAI, models={provider: f"{provider.value}-default" for provider in Provider}
        ),
        limits=limits,
        metrics=TurnMetrics(CollectorRegistry()),
        tools=turn_tools(),
        jitter=lambda: 1.0,
    )


def request(**model: object) -> ChatRequest:
    return ChatRequest(
        run_id=RUN, model=ModelChoice.model_validate(model), messages=[ChatMessage(role=ChatRole.USER, content="hi")]
    )


async def events_of(model: FakeChatModel, limits: TurnLimits = FAST, **choice: object) -> list[ChatEvent]:
    return [event async for event in runner(model, limits).run(request(**choice))]


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, DeltaEvent))


def code_of(event: ChatEvent) -> str:
    assert isinstance(event, ErrorEvent)
    return event.problem.code


async def test_says_text_usage_and_done_in_this_order() -> None:
    model = FakeChatModel([[TextPiece("Hello"), 0.02, TextPiece(" you"), UsageReport(USAGE), STOP]])
    events = await events_of(model)
    assert [event.type for event in events] == ["delta", "delta", "usage", "done"]
    assert text_of(events) == "Hello you"
    assert events[-2] == UsageEvent(usage=USAGE)
    done = events[-1]
    assert isinstance(done, DoneEvent)
    assert (done.finish_reason, done.provider, done.model) == (FinishReason.STOP, Provider.OPENAI, "openai-default")


async def test_says_who_answers_with_the_first_word_and_with_a_failure() -> None:
    model = FakeChatModel([[TextPiece("a"), 0.02, TextPiece("b"), ModelUnavailable()]])
    first, *rest, last = await events_of(model, name="big")
    assert isinstance(first, DeltaEvent)
    assert isinstance(last, ErrorEvent)
    assert (first.provider, first.model) == (last.provider, last.model) == (Provider.OPENAI, "big")
    assert {event.provider for event in rest if isinstance(event, DeltaEvent)} <= {None}


async def test_measures_from_the_call() -> None:
    done = (await events_of(FakeChatModel([[0.05, TextPiece("a"), 0.05, STOP]])))[-1]
    assert isinstance(done, DoneEvent)
    assert done.time_to_first_token_ms is not None
    assert 45 <= done.time_to_first_token_ms < done.latency_ms - 45
    assert done.latency_ms < 2000


async def test_an_answer_without_text_has_no_first_token() -> None:
    done = (await events_of(FakeChatModel([[Finished(FinishReason.CONTENT_FILTER)]])))[-1]
    assert isinstance(done, DoneEvent)
    assert (done.finish_reason, done.time_to_first_token_ms) == (FinishReason.CONTENT_FILTER, None)


async def test_hands_the_request_to_the_model() -> None:
    model = FakeChatModel([[STOP]])
    turn = ChatRequest(
        run_id=RUN,
        model=ModelChoice(name="big", temperature=0.5, max_tokens=7),
        system_prompt="Be brief.",
        messages=[ChatMessage(role=ChatRole.USER, content="hi", name="ada")],
    )
    async for _ in runner(model).run(turn):
        pass
    call = model.calls[0]
    assert (call.model, call.temperature, call.max_tokens, call.system_prompt) == ("big", 0.5, 7, "Be brief.")
    assert call.lines[0].content == "ada: hi"


async def test_the_first_delta_goes_out_at_once_and_later_ones_together() -> None:
    pieces: list[ModelStep] = [step for number in range(20) for step in (TextPiece(f"{number} "), 0.03)]
    model = FakeChatModel([[*pieces, STOP]])
    events = runner(model, TurnLimits(delta_interval=0.2)).run(request())
    moments = [(time.perf_counter(), event.text) async for event in events if isinstance(event, DeltaEvent)]
    assert moments[0][1] == "0 "
    assert "".join(text for _, text in moments) == "".join(f"{number} " for number in range(20))
    assert len(moments) >= 2
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(moments[:-1])]
    assert all(gap >= 0.1 for gap in gaps)  # we may look at one a while after it came


async def test_waiting_text_goes_out_before_the_end() -> None:
    model = FakeChatModel([[TextPiece("a"), 0.01, TextPiece("b"), ModelUnavailable()]])
    events = await events_of(model, TurnLimits(delta_interval=5.0))
    assert text_of(events) == "ab"
    assert code_of(events[-1]) == "model-unavailable"


async def test_cleans_text_across_deltas() -> None:
    model = FakeChatModel([[TextPiece("a\ud83d"), 0.01, TextPiece("\ude00\x00"), 0.01, TextPiece("\ud83d"), STOP]])
    assert text_of(await events_of(model)) == "a😀\ufffd\ufffd"


async def test_tries_again_before_the_first_token() -> None:
    model = FakeChatModel([[ModelUnavailable()], [ModelRateLimited()], [TextPiece("ok"), STOP]])
    events = await events_of(model)
    assert [event.type for event in events] == ["delta", "done"]
    assert len(model.calls) == 3
    assert model.closed == 3


async def test_tries_a_bounded_number_of_times() -> None:
    model = FakeChatModel([[ModelUnavailable()]])
    events = await events_of(model)
    assert [event.type for event in events] == ["error"]
    assert len(model.calls) == FAST.attempts


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([TextPiece("said"), 0.01, ModelUnavailable()], id="after the first token"),
        pytest.param([ModelRejected()], id="not worth it"),
        pytest.param([ModelRateLimited(asked_to_wait=60)], id="asked to stay away for long"),
    ],
)
async def test_does_not_try_again(script: list[ModelStep]) -> None:
    model = FakeChatModel([script])
    assert (await events_of(model))[-1].type == "error"
    assert len(model.calls) == 1


def showing_a_picture() -> ChatRequest:
    picture = ChatImage(media_type=ImageType.PNG, data="AAAA")
    message = ChatMessage(role=ChatRole.USER, content="Look", images=[picture])
    return ChatRequest(run_id=RUN, messages=[message])


@pytest.mark.parametrize("refusal", [ModelRejected(), ContextTooLong()])
async def test_a_model_that_cannot_see_is_told_of_the_picture(refusal: ModelProblem) -> None:
    model = FakeChatModel([[refusal], [TextPiece("I cannot see."), STOP]])
    events = [event async for event in runner(model).run(showing_a_picture())]
    assert text_of(events) == "I cannot see."
    assert [len(call.lines[0].images) for call in model.calls] == [1, 0]
    assert model.calls[1].lines[0].content == "Look\n[image: not shown to this model]"
    assert model.closed == 2


@pytest.mark.parametrize(("first", "calls"), [([ModelRejected()], 2), ([TextPiece("I"), ModelRejected()], 1)])
async def test_a_refusal_that_is_not_the_pictures_fault_stays_one(first: list[ModelStep], calls: int) -> None:
    model = FakeChatModel([first, [ModelRejected()]])
    events = [event async for event in runner(model).run(showing_a_picture())]
    assert code_of(events[-1]) == "model-rejected"
    assert len(model.calls) == calls


async def test_waits_as_long_as_the_provider_asks() -> None:
    model = FakeChatModel([[ModelRateLimited(asked_to_wait=0.1)], [STOP]])
    started = time.perf_counter()
    await events_of(model)
    assert time.perf_counter() - started >= 0.1


async def test_a_rate_limit_tells_when_to_come_back() -> None:
    error = (await events_of(FakeChatModel([[ModelRateLimited(asked_to_wait=60)]])))[-1]
    assert isinstance(error, ErrorEvent)
    assert (error.problem.status, error.retry_after) == (429, 60)


@pytest.mark.parametrize(
    ("limits", "script"),
    [
        pytest.param(TurnLimits(first_token=0.05), [600.0], id="first token"),
        pytest.param(TurnLimits(between_tokens=0.05), [TextPiece("a"), 600.0], id="between tokens"),
        pytest.param(TurnLimits(turn=0.1), [TextPiece("a"), *([0.01, TextPiece("b")] * 5_000)], id="whole turn"),
    ],
)
async def test_keeps_its_deadlines(limits: TurnLimits, script: list[ModelStep]) -> None:
    model = FakeChatModel([script])
    started = time.perf_counter()
    events = await events_of(model, limits)
    assert time.perf_counter() - started < 20
    assert code_of(events[-1]) == "model-timeout"
    assert model.closed == 1


async def test_an_unfinished_stream_is_an_error() -> None:
    events = await events_of(FakeChatModel([[TextPiece("half")]]))
    assert text_of(events) == "half"
    assert code_of(events[-1]) == "model-unavailable"


async def test_usage_of_a_failed_turn_is_reported() -> None:
    events = await events_of(FakeChatModel([[TextPiece("a"), UsageReport(USAGE), 0.01, ModelRejected()]]))
    assert [event.type for event in events] == ["delta", "usage", "error"]


async def test_an_absent_provider_is_an_error() -> None:
    events = await events_of(FakeChatModel([[STOP]]), provider="local")
    assert code_of(events[-1]) == "model-not-configured"


async def test_a_defect_ends_the_turn_without_a_word_of_it() -> None:
    error = (await events_of(FakeChatModel([[RuntimeError("secret")]])))[-1]
    assert isinstance(error, ErrorEvent)
    assert (error.problem.status, error.problem.code) == (500, "internal-error")
    assert "secret" not in error.model_dump_json()


async def _first(events: AsyncGenerator[ChatEvent]) -> ChatEvent:
    return await anext(events)


async def test_closing_the_stream_closes_the_model() -> None:
    model = FakeChatModel([[TextPiece("a"), 60.0]])
    turns = runner(model)
    events = turns.run(request())
    await _first(events)
    await events.aclose()
    assert model.closed == 1
    assert turns.running == 0


async def test_cancelling_the_caller_closes_the_model() -> None:
    model = FakeChatModel([[TextPiece("a"), 60.0]])

    async def consume() -> None:
        async for _ in runner(model).run(request()):
            pass

    task = asyncio.create_task(consume())
    while not model.calls:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.closed == 1


async def _stop_soon(turns: TurnRunner) -> None:
    await asyncio.sleep(0.03)
    turns.stop()


@pytest.mark.parametrize("script", [[TextPiece("a"), 60.0], [60.0], [ModelRateLimited(asked_to_wait=2.9)]])
async def test_a_stop_ends_running_turns_and_refuses_new_ones(script: list[ModelStep]) -> None:
    model = FakeChatModel([script])
    turns = runner(model)
    stopping = asyncio.create_task(_stop_soon(turns))
    started = time.perf_counter()
    events = [event async for event in turns.run(request())]
    assert time.perf_counter() - started < 2.4
    assert code_of(events[-1]) == "agent-restarting"
    await stopping
    calls = len(model.calls)
    later = [event async for event in turns.run(request())]
    assert [code_of(event) for event in later] == ["agent-restarting"]
    assert len(model.calls) == calls


def _count(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(
    ("script", "outcome"),
    [([TextPiece("a"), UsageReport(USAGE), STOP], "completed"), ([ModelRejected()], "failed")],
)
async def test_counts_turns(script: list[ModelStep], outcome: str) -> None:
    registry = CollectorRegistry()
    turns = TurnRunner(
        {Provider.OPENAI: FakeChatModel([script])},
        defaults=ModelDefaults(provider=Provider.OPENAI, models={Provider.OPENAI: "m"}),
        limits=FAST,
        metrics=TurnMetrics(registry),
        tools=turn_tools(),
    )
    async for _ in turns.run(request()):
        pass
    assert _count(registry, "agent_turns_total", provider="openai", outcome=outcome) == 1
    tokens = _count(registry, "agent_tokens_total", provider="openai", kind="completion")
    assert tokens == (2 if outcome == "completed" else 0)
