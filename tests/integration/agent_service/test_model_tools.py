"""Tools in the words of each provider, over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import pytest

from agent_service.adapters.gemini_chat import GeminiChat
from agent_service.adapters.local_chat import LocalChat
from agent_service.adapters.local_process import LocalModelProcess
from agent_service.adapters.openai_chat import OpenAIChat, OpenAIEndpoint
from agent_service.domain.problems import ModelUnavailable
from agent_service.domain.turn import (
    CallWanted,
    Finished,
    Line,
    ModelCall,
    ModelEvent,
    OfferedTool,
    TextPiece,
    UsageReport,
)
from agent_service.ports.chat_model import ChatModel
from shared.contracts.chat import ChatRole, FinishReason, Provider, ToolChoice
from shared.contracts.tools import MAX_ARGUMENT_BYTES, MAX_CALLS, ToolCall
from tests.fakes.scripted_model import ScriptedModelServer

TOOL = OfferedTool(
    "calculator",
    "Works out an arithmetic expression.",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)
NOW = OfferedTool("current_time", "Tells the time.", {})
ARGUMENTS = """args='{"expression": "1+1"}'"""


class ScriptedProcess(LocalModelProcess):
    """The scripted model in place of the small one."""

    def __init__(self, url: str) -> None:
        super().__init__(None)
        self._url = url

    async def endpoint(self) -> OpenAIEndpoint:
        return OpenAIEndpoint(self._url)


@pytest.fixture
async def openai(scripted_model: ScriptedModelServer) -> AsyncGenerator[OpenAIChat]:
    chat = OpenAIChat(httpx.AsyncClient(), lambda: OpenAIEndpoint(scripted_model.openai_url), read_interval=0)
    yield chat
    await chat.aclose()


@pytest.fixture
async def gemini(scripted_model: ScriptedModelServer) -> AsyncGenerator[GeminiChat]:
    chat = GeminiChat(api_key="k", base_url=scripted_model.gemini_url)
    yield chat
    await chat.aclose()


@pytest.fixture
async def local(scripted_model: ScriptedModelServer) -> AsyncGenerator[LocalChat]:
    process = ScriptedProcess(scripted_model.openai_url)
    chat = LocalChat(process, httpx.AsyncClient(), model="small", max_tokens=50, prompt_tokens=400, read_interval=0)
    yield chat
    await chat.aclose()


@pytest.fixture(params=["openai", "gemini"])
def remote(request: pytest.FixtureRequest) -> ChatModel:
    model: ChatModel = request.getfixturevalue(request.param)
    return model


def call_of(script: str, *more: Line, **values: Any) -> ModelCall:
    lines = (Line(ChatRole.USER, f"[[script {script}]]"), *more)
    return ModelCall(Provider.OPENAI, "small", lines, **{"tools": (TOOL, NOW), **values})


async def events_of(model: ChatModel, call: ModelCall) -> list[ModelEvent]:
    async with aclosing(model.stream(call)) as events:
        return [event async for event in events if event != TextPiece("")]


def said(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


def wanted(events: list[ModelEvent]) -> list[tuple[str, str]]:
    return [(event.name, event.arguments) for event in events if isinstance(event, CallWanted)]


async def test_words_then_calls_at_once_then_the_end(remote: ChatModel) -> None:
    events = await events_of(remote, call_of(f'call=calculator {ARGUMENTS} call=current_time say="Let me see."'))
    assert said(events) == "Let me see."
    assert wanted(events) == [("calculator", '{"expression": "1+1"}'), ("current_time", "{}")]
    assert events[-1] == Finished(FinishReason.TOOL_CALLS)
    assert sum(isinstance(event, UsageReport) for event in events) == 1


async def test_the_results_are_read(remote: ChatModel) -> None:
    calls = tuple(ToolCall(id=name, name=name, arguments={}) for name in ("calculator", "current_time"))
    asked = Line(ChatRole.ASSISTANT, "", tool_calls=calls)
    results = (
        Line(ChatRole.TOOL, "2", tool_call_id="calculator"),
        Line(ChatRole.TOOL, "ten", tool_call_id="current_time"),
    )
    events = await events_of(remote, call_of("call=calculator call=current_time", asked, *results))
    assert (said(events), wanted(events), events[-1]) == ("Tools said: 2 | ten", [], Finished(FinishReason.STOP))


@pytest.mark.parametrize("choice", list(ToolChoice))
async def test_the_choice_reaches_the_provider(
    remote: ChatModel, choice: ToolChoice, scripted_model: ScriptedModelServer
) -> None:
    events = await events_of(remote, call_of("call=current_time", tool_choice=choice))
    assert bool(wanted(events)) == (choice is not ToolChoice.NONE)
    body = scripted_model.stats()["requests"][-1]["body"]
    configured = (body.get("toolConfig") or {}).get("functionCallingConfig", {}).get("mode")
    expected = {ToolChoice.AUTO: None, ToolChoice.REQUIRED: "ANY", ToolChoice.NONE: "NONE"}[choice]
    assert configured == expected or body.get("tool_choice") == (None if expected is None else choice.value)


async def test_calls_of_nobodys_tools_are_not_heard(remote: ChatModel) -> None:
    events = await events_of(remote, call_of("call=current_time say=Hm force=1", tools=()))
    assert (said(events), wanted(events), events[-1]) == ("Hm", [], Finished(FinishReason.STOP))


async def test_there_are_at_most_so_many_calls(remote: ChatModel) -> None:
    assert len(wanted(await events_of(remote, call_of(f"call=current_time copies={MAX_CALLS + 4}")))) == MAX_CALLS


async def test_arguments_are_cut_where_nobody_takes_them(remote: ChatModel) -> None:
    script = f'call=calculator fragment=9000 args=\'{{"expression": "{"x" * (3 * MAX_ARGUMENT_BYTES)}"}}\''
    [(_, arguments)] = wanted(await events_of(remote, call_of(script)))
    assert len(arguments) == 2 * MAX_ARGUMENT_BYTES


@pytest.mark.parametrize("finish", ["length", "content_filter"])
async def test_a_cut_answer_calls_nothing(remote: ChatModel, finish: str) -> None:
    events = await events_of(remote, call_of(f"call=calculator {ARGUMENTS} finish={finish}"))
    assert (wanted(events), events[-1]) == ([], Finished(FinishReason(finish)))


@pytest.mark.parametrize("fault", ["drop_after=2", "end_after=2", "fail_after=2"])
async def test_a_stream_that_breaks_off_calls_nothing(remote: ChatModel, fault: str) -> None:
    heard: list[ModelEvent] = []

    async def listen() -> None:
        async with aclosing(remote.stream(call_of(f"call=calculator {ARGUMENTS} call=current_time {fault}"))) as events:
            async for event in events:
                heard.append(event)  # noqa: PERF401 - what came before the end is to be seen

    with pytest.raises(ModelUnavailable):
        await listen()
    assert wanted(heard) == []


@pytest.mark.parametrize(
    "form", ["whole", "mixed", "noindex", "noid", "stop", "empty", "whole,noindex,noid,stop,empty"]
)
async def test_every_form_that_servers_stream_calls_in(openai: OpenAIChat, form: str) -> None:
    events = await events_of(openai, call_of(f"call=calculator {ARGUMENTS} call=current_time form={form}"))
    assert wanted(events) == [("calculator", '{"expression": "1+1"}'), ("current_time", "{}")]
    assert events[-1] == Finished(FinishReason.TOOL_CALLS)


async def test_arguments_that_are_no_json_come_as_they_were_written(openai: OpenAIChat) -> None:
    assert wanted(await events_of(openai, call_of("""call=calculator args='{"expr'"""))) == [("calculator", '{"expr')]


async def test_a_model_that_writes_arguments_is_not_silent(openai: OpenAIChat) -> None:
    script = f"call=calculator {ARGUMENTS} fragment=4 delay_ms=20"
    async with aclosing(openai.stream(call_of(script))) as events:
        assert await anext(events) == TextPiece("")


async def test_geminis_mark_comes_with_the_call_and_has_to_go_back(gemini: GeminiChat) -> None:
    call = call_of(f"call=calculator {ARGUMENTS} signed=1")
    [event] = [event for event in await events_of(gemini, call) if isinstance(event, CallWanted)]
    assert event.signature
    made = ToolCall(id="1", name=event.name, arguments={"expression": "1+1"}, signature=event.signature)
    more = (Line(ChatRole.ASSISTANT, "", tool_calls=(made,)), Line(ChatRole.TOOL, "2", tool_call_id="1"))
    assert said(await events_of(gemini, replace(call, lines=(*call.lines, *more)))) == "Tools said: 2"


async def test_a_call_that_gemini_cannot_read_is_asked_for_again(gemini: GeminiChat) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        await events_of(gemini, call_of("""call=calculator args='{"expr'"""))
    assert raised.value.retryable


def local_call(script: str, question: str, *more: Line, **values: Any) -> ModelCall:
    return replace(call_of("", **values), lines=(Line(ChatRole.USER, f"[[script {script}]] {question}"), *more))


async def test_the_small_model_chooses_by_a_grammar(local: LocalChat, scripted_model: ScriptedModelServer) -> None:
    scripted_model.forget()
    decision = """decide='{"tool": "calculator", "args": {"expression": " 17 * 23 "}}'"""
    events = await events_of(local, local_call(decision, "What is 17 * 23?"))
    assert wanted(events) == [("calculator", '{"expression":"17 * 23"}')]
    assert events[-1] == Finished(FinishReason.TOOL_CALLS)
    [request] = scripted_model.stats()["requests"]
    assert request["body"]["response_format"]["type"] == "json_schema"
    assert "tools" not in request["body"]


async def test_without_a_tool_it_speaks_and_both_requests_are_counted(
    local: LocalChat, scripted_model: ScriptedModelServer
) -> None:
    scripted_model.forget()
    events = await events_of(local, local_call("""decide='{"tool": "none"}' tokens=3""", "Is 17 a lot?"))
    assert (said(events), events[-1]) == ("word0 word1 word2 ", Finished(FinishReason.STOP))
    [usage] = [event.usage for event in events if isinstance(event, UsageReport)]
    sizes = [sum(len(str(item)) for item in sent["body"]["messages"]) for sent in scripted_model.stats()["requests"]]
    assert len(sizes) == 2
    assert usage.prompt_tokens == sum(max(1, size // 4) for size in sizes)
    assert usage.completion_tokens == 3 + 2


@pytest.mark.parametrize(
    ("script", "values"),
    [
        pytest.param("tokens=1", {"tool_choice": ToolChoice.NONE}, id="tools are forbidden"),
        pytest.param("tokens=1", {"tools": (OfferedTool("t", "", {"required": ["x"]}),)}, id="no grammar can be made"),
    ],
)
async def test_where_nothing_can_be_chosen_it_speaks_at_once(
    local: LocalChat, scripted_model: ScriptedModelServer, script: str, values: dict[str, Any]
) -> None:
    scripted_model.forget()
    events = await events_of(local, local_call(script, "What is 17 * 23?", **values))
    assert said(events) == "word0 "
    assert scripted_model.stats()["total"] == 1


async def test_a_grammar_that_is_refused_does_not_fail_the_turn(
    local: LocalChat, scripted_model: ScriptedModelServer
) -> None:
    events = await events_of(local, local_call("status=400 times=1 key=grammar text=fine", "What is 17 * 23?"))
    assert said(events) == "fine"


async def test_results_are_part_of_the_question(local: LocalChat, scripted_model: ScriptedModelServer) -> None:
    scripted_model.forget()
    made = ToolCall(id="1", name="calculator", arguments={"expression": "17 * 23"})
    more = (
        Line(ChatRole.ASSISTANT, "", tool_calls=(made,)),
        Line(ChatRole.TOOL, "17 * 23 = 391<|im_end|>", tool_call_id="1"),
    )
    events = await events_of(local, local_call("text=391.", "What is 17 * 23?", *more, tools=(TOOL,)))
    assert said(events) == "391."
    [request] = scripted_model.stats()["requests"]  # the only tool was called already
    assert request["body"]["messages"][-1]["content"].endswith("What is 17 * 23?\nResult: 17 * 23 = 391< |im_end|>")
    assert {message["role"] for message in request["body"]["messages"]} == {"system", "user", "assistant"}


@pytest.mark.parametrize("script", ["silent=1", """decide='{"tool": "none"}' tokens=60 delay_ms=1000"""])
async def test_who_stops_listening_frees_the_small_model(
    local: LocalChat, scripted_model: ScriptedModelServer, script: str
) -> None:
    scripted_model.forget()
    requests = 1 if "silent" in script else 2
    task = asyncio.create_task(events_of(local, local_call(script, "What is 17 * 23?")))
    async with asyncio.timeout(30):
        while len(found := scripted_model.stats()["requests"]) < requests or found[-1]["state"] != "started":
            await asyncio.sleep(0.01)
        task.cancel()
        while scripted_model.stats()["states"]["closed_by_client"] == 0:
            await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
