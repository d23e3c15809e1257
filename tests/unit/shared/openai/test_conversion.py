"""OpenAI's request → ours."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from shared.contracts.chat import ChatRequest, ChatRole, ImageType, ModelChoice, Provider, ToolChoice
from shared.openai.conversion import chat_request
from shared.openai.errors import InvalidParameter, UnknownModel
from shared.openai.models import chosen_model
from shared.openai.requests import CompletionRequest

PIXEL = "data:image/png;base64,iVBORw0KGgo="
ASKED = [{"role": "user", "content": "Hello"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOLD = {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}


def tool(name: str, **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


TOOLS = [tool("weather", description="Tells it.", parameters={"type": "object"}), tool("time")]


def converted(messages: list[Any] | None = None, **fields: Any) -> ChatRequest:
    wanted = CompletionRequest.model_validate({"model": "local", "messages": messages or ASKED, **fields})
    return chat_request(wanted, run_id=uuid.uuid4(), model=chosen_model(wanted.model))


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("local", Provider.LOCAL, None),
        ("google_genai:gemini-2.0-flash", Provider.GOOGLE_GENAI, "gemini-2.0-flash"),
        ("openai:llama3.2:3b", Provider.OPENAI, "llama3.2:3b"),
        ("gpt-4o", Provider.OPENAI, "gpt-4o"),
    ],
)
def test_a_model_goes_by_its_provider(model: str, provider: Provider, name: str | None) -> None:
    assert chosen_model(model) == ModelChoice(provider=provider, name=name)


@pytest.mark.parametrize("model", ["llama3.2:3b", "local:", ":x", "OPENAI:gpt-4o"])
def test_a_model_of_nobodys_is_not_there(model: str) -> None:
    with pytest.raises(UnknownModel, match=r"names a provider|does not exist"):
        chosen_model(model)


def test_messages_keep_their_order_and_their_words() -> None:
    turn = converted(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}],
                "name": "ann",
            },
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "Again"},
        ]
    )

    assert [(message.role, message.content, message.name) for message in turn.messages] == [
        (ChatRole.SYSTEM, "Be brief.", None),
        (ChatRole.USER, "One\ntwo", "ann"),
        (ChatRole.ASSISTANT, "No.", None),
        (ChatRole.SYSTEM, "Be kind.", None),
        (ChatRole.USER, "Again", None),
    ]
    assert turn.system_prompt is None


def test_pictures_come_as_data() -> None:
    parts = [{"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}, {"type": "text", "text": "What?"}]

    [message] = converted([{"role": "user", "content": parts}]).messages

    assert message.content == "What?"
    [image] = message.images or []
    assert (image.media_type, image.data) == (ImageType.PNG, "iVBORw0KGgo=")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/cat.png", "not fetched"),
        ("data:image/svg+xml;base64,AAAA", "PNG, JPEG"),
        ("data:image/png;base64,no base64", "pattern"),
        ("data:image/png,AAAA", "data:<type>"),
    ],
)
def test_other_pictures_are_refused_helpfully(url: str, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words) as refused:
        converted([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])

    assert refused.value.param == "messages"


def test_calls_and_what_they_were_answered() -> None:
    signed = {**CALL, "extra_content": {"google": {"thought_signature": "c2ln"}}}

    _, called, told = converted([*ASKED, {**CALLED, "tool_calls": [signed]}, TOLD], tools=TOOLS).messages

    assert called.content == ""
    [call] = called.tool_calls or []
    assert (call.id, call.name, call.arguments, call.signature) == ("call_1", "weather", {"city": "Oslo"}, "c2ln")
    assert (told.role, told.content, told.tool_call_id, told.name) == (ChatRole.TOOL, "Rain.", "call_1", "weather")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([*ASKED, CALLED], "must follow"),
        ([*ASKED, CALLED, *ASKED], "must follow"),
        ([*ASKED, TOLD], "answers a call"),
        ([*ASKED, CALLED, TOLD, TOLD], "answers a call"),
        ([*ASKED, CALLED, {**TOLD, "tool_call_id": "call_2"}], "answers a call"),
        ([*ASKED, {**CALLED, "tool_calls": [CALL, CALL]}], "same `id`"),
        ([*ASKED, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "x", "arguments": "["}}]}], "JSON"),
        ([*ASKED, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "x", "arguments": "[]"}}]}], "JSON"),
    ],
)
def test_calls_that_do_not_fit_are_refused(messages: list[Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        converted(messages)


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        (None, ["weather", "time"], ToolChoice.AUTO),
        ("auto", ["weather", "time"], ToolChoice.AUTO),
        ("none", ["weather", "time"], ToolChoice.NONE),
        ("required", ["weather", "time"], ToolChoice.REQUIRED),
        (tool("time"), ["time"], ToolChoice.REQUIRED),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("weather")]}},
            ["weather"],
            ToolChoice.AUTO,
        ),
    ],
)
def test_a_choice_of_tools(choice: Any, names: list[str], expected: ToolChoice) -> None:
    turn = converted(tools=TOOLS, tool_choice=choice)

    assert [function.name for function in turn.functions] == names
    assert turn.tool_choice is expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": tool("other")}, "tool_choice"),
        ({"tools": [*TOOLS, tool("time")]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"web_search_options": {}}, "web_search_options"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        converted(**fields)

    assert refused.value.param == param


def test_what_only_tunes_the_answer_passes() -> None:
    turn = converted(
        temperature=1,
        max_tokens=5,
        max_completion_tokens=7,
        top_p=0.5,
        presence_penalty=1,
        frequency_penalty=-1,
        seed=7,
        user="ann",
        metadata={"a": "b"},
        store=False,
        n=1,
        logprobs=False,
        response_format={"type": "text"},
        modalities=["text"],
        logit_bias={},
        parameter_of_next_year={"a": 1},
    )

    assert (turn.model.temperature, turn.model.max_tokens) == (1, 7)


def test_the_caller_wins_over_the_models_own_settings() -> None:
    model = ModelChoice(provider=Provider.LOCAL, temperature=0.1, max_tokens=100)

    def asked(**fields: Any) -> ModelChoice:
        wanted = CompletionRequest.model_validate({"model": "bot:x", "messages": ASKED, **fields})
        return chat_request(wanted, run_id=uuid.uuid4(), model=model).model

    assert asked() == model
    assert asked(temperature=0, max_tokens=5) == ModelChoice(provider=Provider.LOCAL, temperature=0, max_tokens=5)
