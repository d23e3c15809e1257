"""A call to a model in the words of OpenAI's REST API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, assert_never

import orjson

from agent_service.domain.turn import Line, ModelCall, OfferedTool
from agent_service.prompts.control_tokens import broken_up
from shared.contracts.chat import ChatRole, ToolChoice
from shared.contracts.tools import ToolCall

_NO_PARAMETERS = {"type": "object", "properties": {}}


def encoded_body(call: ModelCall, extra: Mapping[str, Any], *, is_openai_itself: bool) -> bytes:
    """The body of the request; `extra` is what goes into it besides."""
    body = _body(call, extra, is_openai_itself=is_openai_itself)
    try:
        return orjson.dumps(body)
    except TypeError:
        # The schema of somebody's tool holds a number that orjson cannot write.
        return json.dumps(body).encode()


def _body(call: ModelCall, extra: Mapping[str, Any], *, is_openai_itself: bool) -> dict[str, Any]:
    messages = [_message(line, is_openai_itself=is_openai_itself) for line in call.lines]
    if call.system_prompt:
        messages.insert(0, {"role": ChatRole.SYSTEM.value, "content": call.system_prompt})
    body: dict[str, Any] = {
        **extra,
        "model": call.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if call.temperature is not None:
        body["temperature"] = call.temperature
    if call.max_tokens is not None:
        # OpenAI's newer models refuse the old name, and compatible servers often know no other.
        body["max_completion_tokens" if is_openai_itself else "max_tokens"] = call.max_tokens
    if call.tools:
        body["tools"] = [_function(tool) for tool in call.tools]
        if call.tool_choice is not ToolChoice.AUTO:
            body["tool_choice"] = call.tool_choice.value
    return body


def _message(line: Line, *, is_openai_itself: bool) -> dict[str, Any]:
    match line.role:
        case ChatRole.ASSISTANT if line.tool_calls:
            return {
                "role": line.role.value,
                # Beside calls, some servers refuse an empty text.
                "content": line.content or None,
                "tool_calls": [_call(call) for call in line.tool_calls],
            }
        case ChatRole.TOOL:
            # What a tool read may hold what parts the roles in an open model's template.
            content = line.content if is_openai_itself else broken_up(line.content)
            return {"role": line.role.value, "tool_call_id": line.tool_call_id or "", "content": content}
        case ChatRole.USER | ChatRole.ASSISTANT | ChatRole.SYSTEM:
            return {"role": line.role.value, "content": _content(line)}
        case _:
            assert_never(line.role)


def _content(line: Line) -> str | list[dict[str, Any]]:
    if not line.images:
        return line.content
    pictures = [
        {"type": "image_url", "image_url": {"url": f"data:{image.media_type.value};base64,{image.data}"}}
        for image in line.images
    ]
    return [{"type": "text", "text": line.content}, *pictures]


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = orjson.dumps(call.arguments).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _function(tool: OfferedTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters or _NO_PARAMETERS}
    return {"type": "function", "function": function}
