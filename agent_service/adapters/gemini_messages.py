"""A conversation and its tools in LangChain's words, as Gemini takes them.

The library imports slowly, so everything here imports it when it is called.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from agent_service.domain.turn import Line, ModelCall, OfferedTool
from shared.contracts.chat import ChatRole, ImageType

if TYPE_CHECKING:
    from google.genai.types import Tool
    from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

SIGNATURES = "__gemini_function_call_thought_signatures__"
"""Where the library keeps the marks of calls, by the calls' ids."""

_TAKEN_IMAGES = frozenset({ImageType.PNG, ImageType.JPEG, ImageType.WEBP})
"""Gemini refuses a turn with any other."""

# What Gemini documents of JSON Schema. It refuses a request for a word that it does not know.
_PLAIN_WORDS = frozenset(
    {"type", "format", "title", "description", "enum", "required", "minimum", "maximum", "minItems", "maxItems", "$ref"}
)
_ONE_SCHEMA = frozenset({"items", "additionalProperties"})
_MANY_SCHEMAS = frozenset({"anyOf", "oneOf", "prefixItems"})
_NAMED_SCHEMAS = frozenset({"properties", "$defs"})
_MAX_DEPTH = 32


def messages(call: ModelCall) -> list[BaseMessage]:
    """Gemini takes one system text, and refuses messages without any."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage  # noqa: PLC0415 - see above

    spoken: list[BaseMessage] = []
    lines = list(call.lines)
    for position, line in enumerate(lines):
        if line.role is ChatRole.ASSISTANT and line.tool_calls:
            spoken += _round(line, lines[position + 1 :], len(spoken))
        elif line.role in (ChatRole.USER, ChatRole.ASSISTANT) and (line.content or line.images):
            kind = HumanMessage if line.role is ChatRole.USER else AIMessage
            spoken.append(kind(content=_content(line)))
    system = call.system_text()
    if not spoken:
        return [HumanMessage(content=system or " ")]
    return [SystemMessage(content=system), *spoken] if system is not None else spoken


def _round(line: Line, following: Iterable[Line], number: int) -> list[AIMessage | ToolMessage]:
    """The calls, and what came of them in the order of the calls: without ids, Gemini goes by that.

    The library finds a call's result anywhere in the conversation by its id, so each gets one of its own.
    """
    from langchain_core.messages import AIMessage, ToolMessage  # noqa: PLC0415 - see above

    results: dict[str, str] = {}
    for result in following:
        if result.role is not ChatRole.TOOL:
            break
        results.setdefault(result.tool_call_id or "", result.content)
    calls: list[dict[str, Any]] = []
    answers: list[ToolMessage] = []
    signatures: dict[str, str] = {}
    for index, call in enumerate(line.tool_calls):
        own_id = f"{number}-{index}"
        calls.append({"name": call.name, "args": call.arguments, "id": own_id})
        if call.signature and _is_base64(call.signature):
            signatures[own_id] = call.signature
        if call.id in results:
            # The library parses a text that is JSON; an object of ours keeps what a tool said a text.
            content = orjson.dumps({"output": results[call.id]}).decode()
            answers.append(ToolMessage(content=content, tool_call_id=own_id, name=call.name))
    asked = AIMessage(content=line.content, tool_calls=calls, additional_kwargs={SIGNATURES: signatures})
    return [asked, *answers]


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False


def _content(line: Line) -> str | list[str | dict[str, Any]]:
    """Text, or LangChain's content blocks."""
    line = line.showing(_TAKEN_IMAGES)
    if not line.images:
        return line.content
    pictures = [{"type": "image", "base64": image.data, "mime_type": image.media_type.value} for image in line.images]
    return [{"type": "text", "text": line.content}, *pictures]


def declarations(tools: Sequence[OfferedTool]) -> list[Tool]:
    """The tools with their JSON Schemas: the library's own conversion raises for many, and loses parts of others."""
    from google.genai.types import FunctionDeclaration, Tool  # noqa: PLC0415 - see above

    return [
        Tool(
            function_declarations=[
                FunctionDeclaration(
                    name=tool.name,
                    description=tool.description,
                    # Gemini refuses an object without properties; without a schema it knows that there are none.
                    parameters_json_schema=schema_for_gemini(tool.parameters)
                    if tool.parameters.get("properties")
                    else None,
                )
                for tool in tools
            ]
        )
    ]


def schema_for_gemini(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object, without the words that Gemini does not know."""
    return {"type": "object"} | _known_words(schema, _MAX_DEPTH)


def _known_words(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for given_word, given in schema.items() if depth else ():
        word, value = _renamed(given_word, given)
        if word == "allOf" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            known |= _known_words(value[0], depth - 1)
        elif (taken := _taken(word, value, depth)) is not None:
            known[word] = taken
    return known


def _renamed(word: str, value: Any) -> tuple[str, Any]:
    match word, value:
        case "const", str() | int() | float():
            return "enum", [value]
        case "definitions", _:
            return "$defs", value
        case "$ref", str():
            return word, value.replace("#/definitions/", "#/$defs/", 1)
        case _:
            return word, value


def _taken(word: str, value: Any, depth: int) -> Any:
    """The value as Gemini takes it, `None` for what it does not."""
    if word in _PLAIN_WORDS:
        return value
    if word in _ONE_SCHEMA and isinstance(value, dict | bool):
        return _known_words(value, depth - 1) if isinstance(value, dict) else value
    if word in _MANY_SCHEMAS and isinstance(value, list):
        return [_known_words(item, depth - 1) for item in value if isinstance(item, dict)]
    if word in _NAMED_SCHEMAS and isinstance(value, dict):
        return {name: _known_words(item, depth - 1) for name, item in value.items() if isinstance(item, dict)}
    return None
