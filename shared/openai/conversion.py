"""OpenAI's request → ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, assert_never
from uuid import UUID

import orjson
from pydantic import ValidationError

from shared.contracts.chat import ChatRequest, ChatRole, ImageType, ModelChoice, ToolChoice
from shared.openai.errors import InvalidParameter
from shared.openai.requests import (
    AllowedToolChoice,
    AssistantMessage,
    AssistantToolCall,
    CompletionMessage,
    CompletionRequest,
    FunctionTool,
    ImagePart,
    InstructionMessage,
    Modality,
    NamedTool,
    RefusalPart,
    ResponseFormatType,
    TextPart,
    ToolMessage,
    UserMessage,
)
from shared.web.responses import field_errors

Json = dict[str, Any]

_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)
_SIGNER, _SIGNATURE = "google", "thought_signature"
"""Where Google's own OpenAI-compatible door puts the mark that it wants back with a call: clients know to keep it."""

_PICTURES = frozenset(kind.value for kind in ImageType)
_PARAMETERS = {"functions": "tools", "model": "max_tokens"}
"""Our field → theirs, where the names differ."""


def chat_request(wanted: CompletionRequest, *, run_id: UUID, model: ModelChoice, **ours: Any) -> ChatRequest:
    """The turn that is wanted. `model` is what the name stands for; `ours` are further fields of the turn.

    Instructions stay where they are among the messages: the agent joins them behind a `system_prompt` of ours.
    Raises `InvalidParameter`.
    """
    _refuse(wanted)
    tools, choice = _offered(wanted)
    limit = wanted.max_completion_tokens or wanted.max_tokens
    asked = {"temperature": wanted.temperature, "max_tokens": limit}
    turn = {
        "run_id": run_id,
        "model": model.model_dump() | {name: value for name, value in asked.items() if value is not None},
        "messages": list(_messages(wanted.messages)),
        "functions": [_function(tool) for tool in tools],
        "tool_choice": choice,
        **ours,
    }
    try:
        return ChatRequest.model_validate(turn)
    except ValidationError as error:
        first = field_errors(error)[0]
        where = str(first.loc[0]) if first.loc else "messages"
        raise InvalidParameter(first.msg, _PARAMETERS.get(where, where)) from None


def _refuse(wanted: CompletionRequest) -> None:
    """What is refused unless it is empty: see the fields' descriptions for why."""
    refused = {
        "response_format": wanted.response_format is not None
        and wanted.response_format.type != ResponseFormatType.TEXT,
        "logprobs": wanted.logprobs,
        "modalities": Modality.AUDIO in (wanted.modalities or ()),
        "audio": wanted.audio,
        "functions": wanted.functions,
        "function_call": wanted.function_call,
        "web_search_options": wanted.web_search_options is not None,
    }
    for name, is_wanted in refused.items():
        if is_wanted:
            described = CompletionRequest.model_fields[name].description
            raise InvalidParameter(f"`{name}` is not supported here. {described}", name)


def _offered(wanted: CompletionRequest) -> tuple[Sequence[FunctionTool], ToolChoice]:
    """The tools that the model may call, and whether it must."""
    tools = wanted.tools or []
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidParameter("Two tools have the same name.", "tools")
    match wanted.tool_choice:
        case None:
            return tools, ToolChoice.AUTO
        case ToolChoice():
            if wanted.tool_choice is ToolChoice.REQUIRED and not tools:
                raise InvalidParameter("`required` needs `tools` to choose from.", "tool_choice")
            return tools, wanted.tool_choice
        case NamedTool():
            return _only(tools, [wanted.tool_choice]), ToolChoice.REQUIRED
        case AllowedToolChoice(allowed_tools=allowed):
            return _only(tools, allowed.tools), ToolChoice(allowed.mode)
        case _:
            assert_never(wanted.tool_choice)


def _only(tools: Sequence[FunctionTool], named: Sequence[NamedTool]) -> Sequence[FunctionTool]:
    wanted = {choice.function.name for choice in named}
    kept = [tool for tool in tools if tool.function.name in wanted]
    if len(kept) < len(wanted):
        raise InvalidParameter("It names a function that is not among the `tools`.", "tool_choice")
    return kept


def _function(tool: FunctionTool) -> Json:
    function = tool.function
    parameters = function.parameters or {"type": "object", "properties": {}}
    return {"name": function.name, "description": function.description or "", "parameters": parameters}


def _messages(messages: Sequence[CompletionMessage]) -> Iterator[Json]:
    """Each as ours. A call that nobody answered would be an open one, which the agent would not ask the model about."""
    open_calls: dict[str, str] = {}
    for message in messages:
        if open_calls and not isinstance(message, ToolMessage):
            raise _unanswered(open_calls)
        match message:
            case InstructionMessage():
                yield {"role": ChatRole.SYSTEM, "content": _text(message.content)}
            case UserMessage():
                yield _users(message)
            case AssistantMessage():
                calls = [_call(call) for call in message.tool_calls or ()]
                open_calls = {call["id"]: call["name"] for call in calls}
                if len(open_calls) < len(calls):
                    raise InvalidParameter("Two calls of one message have the same `id`.", "messages")
                yield {"role": ChatRole.ASSISTANT, "content": _text(message.content), "tool_calls": calls or None}
            case ToolMessage():
                name = open_calls.pop(message.tool_call_id, None)
                if name is None:
                    raise InvalidParameter(
                        "A message of role `tool` answers a call of the assistant's message before it, each once.",
                        "messages",
                    )
                yield {
                    "role": ChatRole.TOOL,
                    "content": _text(message.content),
                    "tool_call_id": message.tool_call_id,
                    "name": name if len(name) <= 64 else None,
                }
            case _:
                assert_never(message)
    if open_calls:
        raise _unanswered(open_calls)


def _unanswered(calls: dict[str, str]) -> InvalidParameter:
    return InvalidParameter(
        f"A message of role `tool` must follow for each call of the assistant: {len(calls)} have none.", "messages"
    )


def _users(message: UserMessage) -> Json:
    content = message.content
    images = [] if isinstance(content, str) else [_image(part) for part in content if isinstance(part, ImagePart)]
    text = content if isinstance(content, str) else _text([part for part in content if isinstance(part, TextPart)])
    return {"role": ChatRole.USER, "content": text, "name": message.name, "images": images or None}


def _text(content: str | Sequence[TextPart | RefusalPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


def _image(part: ImagePart) -> Json:
    url = part.image_url.url
    found = _DATA_URL.match(url)
    if found is None:
        raise InvalidParameter(
            "Send a picture as a `data:<type>;base64,…` URL. Addresses of pictures are not fetched here.", "messages"
        )
    kind = found[1].lower()
    if kind not in _PICTURES:
        raise InvalidParameter("A picture is PNG, JPEG, GIF or WebP.", "messages")
    return {"media_type": kind, "data": url[found.end() :]}


def _call(call: AssistantToolCall) -> Json:
    try:
        arguments = orjson.loads(call.function.arguments or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidParameter("The `arguments` of a call are the JSON of an object.", "messages")
    extra = (call.extra_content or {}).get(_SIGNER)
    signature = extra.get(_SIGNATURE) if isinstance(extra, dict) else None
    return {"id": call.id, "name": call.function.name, "arguments": arguments, "signature": signature}


def extra_content(signature: str | None) -> Json:
    """What a call carries beside OpenAI's own fields."""
    return {} if signature is None else {"extra_content": {_SIGNER: {_SIGNATURE: signature}}}
