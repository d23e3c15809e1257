"""How the agent is told of the calls that a run has made: as messages, and decisions on those that are to run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import assert_never

from chat_api.runs.tool_rounds import Call
from chat_api.tools.models import ToolStatus
from shared.contracts.chat import ChatMessage, ChatRequest, ChatRole
from shared.contracts.knowledge import Passage
from shared.contracts.tools import ToolCall, ToolDecision, ToolVerdict, changed, failure, rejection


def with_calls(request: ChatRequest, calls: Sequence[Call], text: str, *, spent_tokens: int) -> ChatRequest:
    """The turn from where it stands: after its message, what the assistant said (`text`) and asked for since.

    `calls` are all of the run's, in order. Those that are running are what the agent is to run now.
    """
    if not calls:
        return request
    messages: list[ChatMessage] = []
    said = 0
    for _, together in groupby(calls, key=lambda call: call.round):
        made = list(together)
        until = made[0].said_characters
        words, wishes = text[said:until].strip(), [_tool_call(call) for call in made]
        messages.append(ChatMessage(role=ChatRole.ASSISTANT, content=words, tool_calls=wishes))
        said = until
        messages.extend(answer for call in made if (answer := _answer(call)) is not None)
    decisions = [
        ToolDecision(
            call_id=call.call_id,
            decision=ToolVerdict.APPROVE,
            arguments=None if call.model_arguments is None else call.arguments,
        )
        for call in calls
        if call.status is ToolStatus.RUNNING
    ]
    return request.model_copy(
        update={
            "messages": [*request.messages, *messages],
            "decisions": decisions,
            "spent_tokens": spent_tokens,
        }
    )


def _tool_call(call: Call) -> ToolCall:
    # As the model wrote it, which its provider may have signed.
    arguments = call.arguments if call.model_arguments is None else call.model_arguments
    return ToolCall(id=call.call_id, name=call.tool_name, arguments=arguments, signature=call.signature)


def _answer(call: Call) -> ChatMessage | None:
    """What the model is told became of a call; None for one that has not ended."""
    match call.status:
        case ToolStatus.SUCCEEDED:
            note = "" if call.model_arguments is None else changed(call.arguments)
            content = note + (call.result or "")
        case ToolStatus.FAILED | ToolStatus.TIMED_OUT:
            content = failure((call.error or {}).get("detail", "Nobody knows why."))
        case ToolStatus.REJECTED:
            content = rejection(call.reason)
        case ToolStatus.PENDING_APPROVAL | ToolStatus.APPROVED | ToolStatus.RUNNING:
            return None
        case _:
            assert_never(call.status)
    return ChatMessage(
        role=ChatRole.TOOL,
        content=content,
        name=call.tool_name[:64],
        tool_call_id=call.call_id,
        passages=[Passage.model_validate(passage) for passage in call.passages] or None,
    )
