"""How a model that cannot call tools is made to choose one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent_service.adapters.local_tools import ToolTurn, can_be_written, chosen, grammar, without_calls
from agent_service.domain.turn import CallWanted, Line, ModelCall, OfferedTool
from shared.contracts.chat import ChatRole, Provider
from shared.contracts.tools import ToolCall

TEXT = {"type": "string", "maxLength": 5000}


def tool(name: str, properties: dict[str, Any] | None = None, *required: str, **more: Any) -> OfferedTool:
    return OfferedTool(name, "", {"type": "object", "properties": properties or {}, "required": [*required], **more})


CALCULATOR = tool("calculator", {"expression": TEXT}, "expression")
CLOCK = tool("current_time", {"timezone": TEXT})


def written(*tools: OfferedTool, must_call: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = grammar(tools, must_call=must_call)["json_schema"]["schema"]
    Draft202012Validator.check_schema(schema)
    return schema


def arguments_of(offered: OfferedTool) -> dict[str, Any]:
    arguments: dict[str, Any] = written(offered)["anyOf"][0]["properties"]["args"]
    return arguments


def test_the_grammar_knows_the_tools_and_none_unless_one_must_be_called() -> None:
    names = [choice["properties"]["tool"]["const"] for choice in written(CALCULATOR, CLOCK)["anyOf"]]
    assert names == ["calculator", "current_time", "none"]
    assert len(written(CALCULATOR, must_call=True)["anyOf"]) == 1


@pytest.mark.parametrize(
    ("given", "simple"),
    [
        (TEXT, {"type": "string", "maxLength": 100}),
        ({"type": "string", "maxLength": 7, "pattern": "^a"}, {"type": "string", "maxLength": 7}),
        ({"type": "string", "maxLength": True}, {"type": "string", "maxLength": 1}),
        ({"type": ["null", "integer"], "minimum": 1}, {"type": "integer"}),
        ({"enum": ["a", "b"]}, {"enum": ["a", "b"]}),
        ({"const": 1}, {"enum": [1]}),
        ({"anyOf": [{"type": "null"}, {"type": "number"}]}, {"type": "number"}),
        ({"$ref": "#/$defs/Kind"}, {"enum": ["x"]}),
        (
            {"type": "array", "items": {"type": "boolean"}},
            {"type": "array", "items": {"type": "boolean"}, "maxItems": 4},
        ),
    ],
)
def test_a_schema_is_made_simple(given: dict[str, Any], simple: dict[str, Any]) -> None:
    offered = tool("t", {"x": given}, "x", **{"$defs": {"Kind": {"enum": ["x"]}}})
    found = arguments_of(offered)["properties"]["x"]
    assert {key: found[key] for key in simple} == simple


@pytest.mark.parametrize(
    "needed",
    [
        {"$ref": "https://elsewhere.example/schema"},
        {"$ref": "#/properties/x"},
        {"type": "object", "patternProperties": {"^a": TEXT}},
        {},
        {"enum": []},
        True,
        {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"type": "array"}}}},
    ],
)
def test_a_tool_that_needs_what_no_grammar_says_is_left_out(needed: Any) -> None:
    assert not can_be_written(tool("t", {"x": needed}, "x"))
    assert can_be_written(tool("t", {"x": needed}))


@pytest.mark.parametrize("parameters", [{}, {"properties": 5}, {"required": 5}, {"required": ["x"]}])
def test_odd_schemas_do_no_harm(parameters: dict[str, Any]) -> None:
    assert can_be_written(OfferedTool("t", "", parameters)) == (parameters == {})


def test_of_what_may_be_given_only_texts_are_asked_for() -> None:
    found = arguments_of(tool("t", {"limit": {"type": "integer"}, "query": TEXT, "zone": TEXT}, "query"))
    assert (list(found["properties"]), found["required"]) == (["query", "zone"], ["query"])


def choice(name: str, **arguments: Any) -> str:
    return json.dumps({"tool": name, "args": arguments})


def arguments_from(question: str, **arguments: Any) -> dict[str, Any] | None:
    call = chosen(choice("calculator", **arguments), question, [CALCULATOR, CLOCK], must_call=False)
    return None if call is None else json.loads(call.arguments)


@pytest.mark.parametrize(
    ("question", "answered", "expression"),
    [
        ("What is (3 + 4) * 12?", "3 + 4 * 12", "(3 + 4) * 12"),
        ("Read https://a.example/b?c=1, please.", "https://a.example", "https://a.example/b?c=1"),
        ("Fetch http://a.example/x", "https://www.a.example/x", "http://a.example/x"),
        ("Look at www.a.example", "https://www.a.example", "https://www.a.example"),
        ("Add 1999 and 2024.", "1999 + 2024", "1999 + 2024"),
        ("From 17, 23 make a product", "17 * 23", "17 * 23"),
        ("Seven times 6", "7 * 6", "7 * 6"),
        ("2 to the power of 10", "2^10", "2^10"),
        ("the GARDEN rules", "garden rules", "GARDEN rules"),
    ],
)
def test_arguments_are_in_the_words_of_the_question(question: str, answered: str, expression: str) -> None:
    assert arguments_from(question, expression=answered) == {"expression": expression}


def test_made_up_arguments_are_no_call() -> None:
    assert arguments_from("What is the capital of France?", expression="90 / 2") is None
    forced = chosen(choice("calculator", expression="90 / 2"), "Hi", [CALCULATOR], must_call=True)
    assert forced == CallWanted("", "calculator", '{"expression":"90 / 2"}')


def test_what_may_be_left_out_is_left_out_where_it_is_made_up() -> None:
    made_up = chosen(choice("current_time", timezone="UTC"), "What time is it?", [CLOCK], must_call=False)
    asked = chosen(choice("current_time", timezone="Asia/Tokyo"), "The time in Tokyo?", [CLOCK], must_call=False)
    assert (made_up, asked) == (
        CallWanted("", "current_time", "{}"),
        CallWanted("", "current_time", '{"timezone":"Asia/Tokyo"}'),
    )


@pytest.mark.parametrize("answer", ["", '{"tool": "calcu', '{"tool": "none"}', choice("other")])
def test_no_choice_is_no_call(answer: str) -> None:
    assert chosen(answer, "What is 1 + 1?", [CALCULATOR], must_call=False) is None


def test_a_long_question_takes_no_time() -> None:
    question = "1 + 1? " + "(" * 100_000 + "1 + " * 100_000
    assert arguments_from(question, expression="1 + 1") is not None


MADE = ToolCall(id="1", name="calculator", arguments={})
LINES = (
    Line(ChatRole.USER, "Old?"),
    Line(ChatRole.ASSISTANT, "", tool_calls=(MADE,)),
    Line(ChatRole.TOOL, "old", tool_call_id="1"),
    Line(ChatRole.ASSISTANT, "Old."),
    Line(ChatRole.USER, "New?"),
    Line(ChatRole.ASSISTANT, "Wait.", tool_calls=(MADE,)),
    Line(ChatRole.TOOL, "new", tool_call_id="1"),
)


def test_a_turn_begins_where_the_user_spoke_last() -> None:
    turn = ToolTurn.of(ModelCall(Provider.LOCAL, "m", LINES))
    assert (turn.question, turn.asked_at, turn.rounds) == ("New?", 4, 1)
    assert (turn.called, turn.results) == (frozenset({"calculator"}), (("calculator", "new"),))


def test_of_a_grounded_prompt_the_question_is_asked() -> None:
    line = Line(ChatRole.USER, "Passages:\nQuestion: none\nQuestion: How long?")
    assert ToolTurn.of(ModelCall(Provider.LOCAL, "m", (line,), pinned=1)).question == "How long?"


def test_words_are_left_of_earlier_rounds() -> None:
    assert [line.content for line in without_calls(LINES)] == ["Old?", "Old.", "New?", "Wait."]


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ("rosa-7c0747: @assistant What is 17 * 23?", "What is 17 * 23?"),
        ("@guide, what time is it?", "what time is it?"),
        ("Is 12:30 past noon?", "Is 12:30 past noon?"),
        ("@assistant", "@assistant"),
    ],
)
def test_who_speaks_in_a_room_and_whom_they_call_is_no_part_of_the_question(said: str, question: str) -> None:
    call = ModelCall(Provider.LOCAL, "m", (Line(ChatRole.USER, said),))
    assert ToolTurn.of(call).question == question
