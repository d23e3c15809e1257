"""What the model is shown: the conversation up to the message that it answers."""

from __future__ import annotations

from collections.abc import Sequence

from chat_api.runs.repository import Claim, Exchange
from shared.contracts.chat import ChatMessage, ChatRequest, ChatRole, ChatUser, ModelChoice, Provider


def chat_request(claim: Claim, history: Sequence[Exchange], *, limit: int) -> ChatRequest:
    """The turn as the agent wants it, with the last `limit` messages at most."""
    messages: list[ChatMessage] = []
    for exchange in history:
        name = exchange.username if claim.several_people else None
        messages.append(ChatMessage(role=ChatRole.USER, content=exchange.content, name=name))
        if exchange.answer is not None:
            messages.append(ChatMessage(role=ChatRole.ASSISTANT, content=exchange.answer))
    return ChatRequest(
        run_id=claim.lease.run_id,
        model=ModelChoice(
            provider=None if claim.provider is None else Provider(claim.provider),
            name=claim.model,
            temperature=claim.settings.get("temperature"),
            max_tokens=claim.settings.get("max_tokens"),
        ),
        system_prompt=claim.system_prompt,
        messages=messages[-limit:],
        user=ChatUser(id=claim.user_id),
    )
