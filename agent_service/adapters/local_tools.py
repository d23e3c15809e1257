"""Tools for a model that cannot call them: one request whose grammar leaves it no choice but to choose.

The answer is JSON by construction, but nothing keeps a small model from making things up, so what it did not take
from the question is not believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agent_service.domain.turn import CallWanted, Line, ModelCall, OfferedTool
from agent_service.domain.wording import terms_of
from agent_service.prompts.tool_decision import NO_TOOL
from shared.contracts.chat import ChatRole

MAX_ROUNDS = 2
"""Of calls in answer to one message. After them the model is to speak."""

_MOST_STRING_CHARACTERS = 100
_MOST_ITEMS = 4
_MOST_PARAMETERS = 5
_MOST_CHOICES = 20
_MOST_DEPTH = 3
_ATOMS = frozenset({"string", "integer", "number", "boolean"})
_MOST_SEARCHED_CHARACTERS = 2_000
_SPACES_AND_BRACKETS = re.compile(r"[\s()\[\]]+")
_ADDRESS = re.compile(r"https?://[^\s<>\"']+")
_ADDRESSED = re.compile(r"^\s*(?:[\w.-]{1,64}: )?(?:@[\w.-]+[,:]?\s+)?(?=\S)")
"""In a room: who speaks, and the name that they call."""
_ENDS_OF_SENTENCES = ".,;:!?\"'"


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """What happened since the user spoke last. `results` are pairs of a tool's name and what it said."""

    question: str
    asked_at: int
    rounds: int
    called: frozenset[str]
    results: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, call: ModelCall) -> ToolTurn:
        lines = call.lines
        asked_at = max((index for index, line in enumerate(lines) if line.role is ChatRole.USER), default=-1)
        since = lines[asked_at + 1 :]
        names = {call.id: call.name for line in since for call in line.tool_calls}
        return cls(
            question=_question(lines[asked_at].content, is_grounded=bool(call.pinned)) if asked_at >= 0 else "",
            asked_at=asked_at,
            rounds=sum(bool(line.tool_calls) for line in since),
            called=frozenset(names.values()),
            results=tuple(
                (names.get(line.tool_call_id or "", line.tool_name or ""), line.content)
                for line in since
                if line.role is ChatRole.TOOL
            ),
        )


def _question(content: str, *, is_grounded: bool) -> str:
    """What was asked: without the passages of a grounded prompt, and without who asked whom, where a room says it."""
    asked = content.rpartition("\nQuestion: ")[2] if is_grounded else content
    return _ADDRESSED.sub("", asked, count=1)


def grammar(tools: Sequence[OfferedTool], *, must_call: bool) -> dict[str, Any]:
    """The `response_format` that lets the model name one of the tools with its arguments, or none."""
    choices = [
        _object({"tool": {"const": tool.name}, "args": _arguments_schema(tool) or _object({})}) for tool in tools
    ]
    if not must_call:
        choices.append(_object({"tool": {"const": NO_TOOL}}))
    return {"type": "json_schema", "json_schema": {"name": "choice", "schema": {"anyOf": choices}}}


def can_be_written(tool: OfferedTool) -> bool:
    """Whether a grammar can be made of what the tool has to be given."""
    return _arguments_schema(tool) is not None


def _object(properties: dict[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else list(required),
        "additionalProperties": False,
    }


def _arguments_schema(tool: OfferedTool) -> dict[str, Any] | None:
    return _simple_object(tool.parameters, tool.parameters, _MOST_DEPTH)


def _simple_object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
    """What must be given, and the texts that may be. `None` where something is needed that is too much."""
    given = schema.get("properties") or {}
    required = schema.get("required") or []
    if not isinstance(given, dict) or not isinstance(required, list) or len(required) > _MOST_PARAMETERS:
        return None
    properties: dict[str, Any] = {}
    for name in [*required, *(name for name in given if name not in required)]:
        simple = _simple(given.get(name), root, depth - 1)
        if name in required and simple is None:
            return None
        is_text = simple is not None and simple.get("type") == "string"
        if name in required or (is_text and len(properties) < _MOST_PARAMETERS):
            properties[name] = simple
    return _object(properties, required)


def _simple(schema: object, root: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
    if not isinstance(schema, dict) or depth < 0:
        return None
    if isinstance(choices := schema.get("enum", [schema["const"]] if "const" in schema else None), list):
        return {"enum": choices[:_MOST_CHOICES]} if choices else None
    if isinstance(reference := schema.get("$ref"), str):
        return _simple(_referred(reference, root), root, depth - 1)
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(options := schema.get(word), list):
            return next((simple for option in options if (simple := _simple(option, root, depth - 1))), None)
    kinds = schema.get("type")
    kind = next((kind for kind in kinds if kind != "null"), None) if isinstance(kinds, list) else kinds
    return _simple_of_kind(kind, schema, root, depth)


def _simple_of_kind(kind: object, schema: dict[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
    if kind == "string":
        longest = schema.get("maxLength")
        if not isinstance(longest, int) or not 0 < longest < _MOST_STRING_CHARACTERS:
            longest = _MOST_STRING_CHARACTERS
        return {"type": "string", "maxLength": int(longest)}
    if kind in _ATOMS:
        return {"type": kind}
    if kind == "array":
        item = _simple(schema.get("items"), root, depth - 1)
        return None if item is None else {"type": "array", "items": item, "minItems": 1, "maxItems": _MOST_ITEMS}
    return _simple_object(schema, root, depth) if kind == "object" and schema.get("properties") else None


def _referred(reference: str, root: Mapping[str, Any]) -> object:
    found: object = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def chosen(answer: str, question: str, tools: Sequence[OfferedTool], *, must_call: bool) -> CallWanted | None:
    """The call that the answer names, its arguments in the question's own words.

    None where it names none, was cut, or made up what the tool has to be given; unless the model must call.
    """
    try:
        choice = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    tool = next((tool for tool in tools if tool.name == choice.get("tool")), None)
    if tool is None:
        return None
    question = question[:_MOST_SEARCHED_CHARACTERS]
    required = tool.parameters.get("required") or []
    arguments: dict[str, Any] = {}
    for name, value in (choice.get("args") or {}).items():
        if not isinstance(value, str) or _is_from(question, value) or _is_a_choice(tool, name):
            arguments[name] = _as_written(question, value) if isinstance(value, str) else value
        elif name in required and not must_call:
            return None
        elif name in required:
            arguments[name] = value
    return CallWanted("", tool.name, orjson.dumps(arguments).decode())


def _is_a_choice(tool: OfferedTool, name: str) -> bool:
    about = (tool.parameters.get("properties") or {}).get(name)
    return isinstance(about, dict) and ("enum" in about or "const" in about)


def _is_from(question: str, value: str) -> bool:
    """Whether the value shares a word with the question."""
    return bool(_words(question) & _words(value))


def _words(text: str) -> frozenset[str]:
    parted = re.sub(r"(?<=\d)(?=[^\W\d])|[_/]", " ", text)
    return terms_of(parted) | frozenset(re.findall(r"\d+", text))


def _as_written(question: str, value: str) -> str:
    """The value as the question has it, with what touches it: a small model loses brackets and ends of addresses."""
    if "://" in value and (address := _ADDRESS.search(question)) is not None:
        return address.group().rstrip(_ENDS_OF_SENTENCES)
    words = re.findall(r"\w+", value)
    found = re.search(r"\b" + r"\W+".join(map(re.escape, words)) + r"\b", question, re.IGNORECASE) if words else None
    # With other signs between the same words it would say something else.
    if found is None or _bare(found.group()) not in _bare(value):
        return value
    start, end = found.span()
    while start > 0 and not question[start - 1].isspace():
        start -= 1
    while end < len(question) and not question[end].isspace():
        end += 1
    return question[start:end].strip(_ENDS_OF_SENTENCES)


def _bare(text: str) -> str:
    return _SPACES_AND_BRACKETS.sub("", text).casefold()


def without_calls(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The conversation as a model reads it that knows of no tools: words only."""
    return tuple(
        Line(line.role, line.content, line.images)
        for line in lines
        if line.role is not ChatRole.TOOL and (line.content or not line.tool_calls)
    )
