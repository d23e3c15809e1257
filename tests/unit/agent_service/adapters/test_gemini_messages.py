"""Conversations and schemas as Gemini takes them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from agent_service.adapters.gemini_messages import SIGNATURES, declarations, messages, schema_for_gemini
from agent_service.domain.turn import Line, ModelCall, OfferedTool
from shared.contracts.chat import ChatRole, Provider
from shared.contracts.tools import ToolCall


def asked(*calls: tuple[str, str | None], words: str = "") -> Line:
    made = (ToolCall(id=given_id, name=f"tool-{given_id}", arguments={}, signature=mark) for given_id, mark in calls)
    return Line(ChatRole.ASSISTANT, words, tool_calls=tuple(made))


def result(call_id: str, content: str) -> Line:
    return Line(ChatRole.TOOL, content, tool_call_id=call_id)


def read(*lines: Line) -> list[BaseMessage]:
    return messages(ModelCall(Provider.GOOGLE_GENAI, "m", (Line(ChatRole.USER, "Hi"), *lines)))


def test_results_stand_in_the_order_of_their_calls() -> None:
    answers = read(asked(("a", None), ("b", None)), result("b", "2"), result("a", "1"))[2:]
    assert [(message.content, getattr(message, "name", None)) for message in answers] == [
        ('{"output":"1"}', "tool-a"),
        ('{"output":"2"}', "tool-b"),
    ]


def test_an_id_that_comes_again_finds_the_result_of_its_own_round() -> None:
    read_ = read(asked(("a", None)), result("a", "first"), asked(("a", None)), result("a", "second"))
    results = {message.tool_call_id: message.content for message in read_ if isinstance(message, ToolMessage)}
    calls = [call["id"] for message in read_ if isinstance(message, AIMessage) for call in message.tool_calls]
    assert [results[str(given)] for given in calls] == ['{"output":"first"}', '{"output":"second"}']


@pytest.mark.parametrize("said", ["[" * 30_000, "NaN", '{"error": "x"}', '"'])
def test_what_a_tool_said_stays_text(said: str) -> None:
    """The library parses a result that looks like JSON, and one that is deep enough ends the turn."""
    from langchain_google_genai.chat_models import _parse_chat_history

    _, contents = _parse_chat_history(read(asked(("a", None)), result("a", said)))
    parts = contents[-1].parts
    assert parts is not None
    assert parts[0].function_response is not None
    assert parts[0].function_response.response == {"output": said}


def test_marks_go_back_with_their_calls_unless_they_are_none() -> None:
    message = read(asked(("a", "c2lnbmVk"), ("b", "no base64!"), ("c", None)))[1]
    assert isinstance(message, AIMessage)
    assert message.additional_kwargs[SIGNATURES] == {message.tool_calls[0]["id"]: "c2lnbmVk"}


def test_a_schema_keeps_what_gemini_knows() -> None:
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "required": ["pattern"],
        "properties": {
            "pattern": {"type": "string", "pattern": "^a", "maxLength": 5, "default": "a"},
            "kind": {"const": "x"},
            "of": {"allOf": [{"$ref": "#/definitions/Of"}]},
            "any": {"anyOf": [{"type": "integer", "multipleOf": 2}, {"type": "null"}]},
        },
        "definitions": {"Of": {"type": ["string", "null"], "examples": ["a"]}},
        "patternProperties": {"^x": {}},
    }
    assert schema_for_gemini(schema) == {
        "type": "object",
        "additionalProperties": False,
        "required": ["pattern"],
        "properties": {
            "pattern": {"type": "string"},
            "kind": {"enum": ["x"]},
            "of": {"$ref": "#/$defs/Of"},
            "any": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "$defs": {"Of": {"type": ["string", "null"]}},
    }


def test_a_tool_without_parameters_has_no_schema() -> None:
    functions = declarations([OfferedTool("now", "", {"type": "object", "properties": {}})])[0].function_declarations
    assert functions is not None
    assert functions[0].parameters_json_schema is None


def test_a_schema_of_great_depth_is_cut() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5_000):
        schema = {"type": "array", "items": schema}
    assert schema_for_gemini(schema)["items"]["type"] == "array"
