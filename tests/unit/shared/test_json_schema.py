"""Values against schemas that others wrote."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shared.json_schema import MAX_CHECK_SECONDS, MAX_ERRORS, is_schema, schema_errors

HARBOUR: dict[str, Any] = {
    "type": "object",
    "properties": {"berths": {"type": "array", "items": {"type": "integer"}}},
    "required": ["berths"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        ({"berths": [1, 2]}, []),
        ({}, [([], "required")]),
        ({"berths": [1, "two"]}, [(["berths", 1], "type")]),
        ({"berths": [], "other": 1}, [([], "additionalProperties")]),
        ([], [([], "type")]),
    ],
)
def test_says_what_does_not_fit_and_where(value: object, errors: list[tuple[list[str | int], str]]) -> None:
    # Twice: the second time the schema is known.
    for _ in range(2):
        assert [(error.loc, error.type) for error in schema_errors(HARBOUR, value)] == errors


def test_a_changed_schema_is_another_one() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert schema_errors(schema, {"a": 1})
    schema["properties"]["a"]["type"] = "integer"
    assert schema_errors(schema, {"a": 1}) == []


def test_tells_so_many_and_no_more() -> None:
    errors = schema_errors(HARBOUR, {"berths": ["x" * 1_000] * 50})
    assert len(errors) == MAX_ERRORS
    assert all(len(error.msg) < 400 for error in errors)


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "nonsense"}, id="no schema"),
        pytest.param({"$ref": "#"}, id="endless"),
        pytest.param({"$ref": "http://127.0.0.1:9/schema.json"}, id="another document"),
        pytest.param({"$ref": "file:///etc/passwd"}, id="a file"),
        pytest.param({"properties": {"a": {"maximum": 2**70}}}, id="a number too large"),
        pytest.param({"description": "\ud83d"}, id="no text"),
    ],
)
def test_a_schema_that_cannot_be_used_lets_nothing_pass(schema: dict[str, Any]) -> None:
    [error] = schema_errors(schema, {"a": "x"})
    assert error.type == "schema"


def _doubling(levels: int) -> dict[str, Any]:
    """Each level refers to the next one twice."""
    levelled = {f"at{level}": {"allOf": [{"$ref": f"#/$defs/at{level + 1}"}] * 2} for level in range(levels)}
    return {"$defs": levelled | {f"at{levels}": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/at0"}}}


@pytest.mark.parametrize(
    ("schema", "value", "kinds"),
    [
        pytest.param({"properties": {"a": {"pattern": "^(a+)+$"}}}, "a" * 5_000 + "!", ["pattern"], id="going back"),
        pytest.param({"properties": {"a": {"pattern": "^([ab]{0,300}){0,300}c$"}}}, "ab" * 500, [], id="large counts"),
        pytest.param({"patternProperties": {"^(a+)+$": False}}, "x", ["None"], id="names"),
        pytest.param(
            {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
            "x",
            ["additionalProperties"],
            id="other names",
        ),
        pytest.param(_doubling(40), "x", ["schema"], id="references that multiply"),
        pytest.param(
            {"properties": {"a": {"uniqueItems": True}}}, [{"n": number} for number in range(4_000)], [], id="unique"
        ),
    ],
)
def test_no_schema_takes_long(schema: dict[str, Any], value: object, kinds: list[str]) -> None:
    arguments = {"a": value, "a" * 64 + "!": 1}
    assert is_schema(schema)
    started = time.thread_time()
    assert [error.type for error in schema_errors(schema, arguments)] == kinds
    assert time.thread_time() - started < MAX_CHECK_SECONDS * 2


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        pytest.param({"pattern": "^[a-z]+$"}, "berth", "Berth 1", id="pattern"),
        pytest.param({"pattern": r"^\p{L}+$"}, "Ärger", "1", id="a pattern that Python does not know"),
        pytest.param({"uniqueItems": True}, [{"a": 1}, {"a": 2}], [{"a": 1, "b": 2}, {"b": 2, "a": 1}], id="unique"),
        pytest.param({"patternProperties": {"^n": {"type": "integer"}}}, {"n1": 1, "m": "x"}, {"n1": "x"}, id="names"),
        pytest.param(
            {"patternProperties": {"^x-": {}}, "properties": {"a": {}}, "additionalProperties": {"type": "null"}},
            {"x-y": 1, "a": 1, "b": None},
            {"b": 1},
            id="other names",
        ),
    ],
)
def test_what_is_checked_otherwise_than_usual(schema: dict[str, Any], fits: object, does_not: object) -> None:
    assert schema_errors(schema, fits) == []
    assert len(schema_errors(schema, does_not)) == 1


def test_what_the_engine_does_not_know_is_left_to_the_tool() -> None:
    assert schema_errors({"pattern": "^(?!no)"}, "no") == []
    assert schema_errors({"patternProperties": {"^(?!no)": False}, "additionalProperties": False}, {"no": 1}) == []
