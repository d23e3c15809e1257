"""The small model on this machine. It speaks OpenAI's API, and wants to be spoken to briefly."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import httpx

from agent_service.adapters.local_process import LocalModelProcess
from agent_service.adapters.openai_chat import OpenAIChat, OpenAIEndpoint
from agent_service.domain.problems import ModelNotFound
from agent_service.domain.tokens import estimated_tokens
from agent_service.domain.turn import Line, ModelCall, ModelEvent
from agent_service.prompts.control_tokens import broken_up
from shared.contracts.chat import ChatRole

_TEMPERATURE = 0.3  # hotter, a model of this size wanders off
_TOKENS_PER_MESSAGE = 5
# An answer from passages repeats their words: a penalty that keeps free talk from looping makes it invent others.
_FAITHFUL_SAMPLING = {"repeat_penalty": 1.05}


def newest_within(lines: Sequence[Line], budget: int) -> tuple[Line, ...]:
    """The newest lines that fit the budget of tokens, and what the user said last whether it fits or not.

    What follows is never an answer without its question: a reply at the front is left out as well.
    """
    kept: list[Line] = []
    has_question = not any(line.role is ChatRole.USER for line in lines)
    for line in reversed(lines):
        budget -= estimated_tokens(line.content) + _TOKENS_PER_MESSAGE
        if kept and has_question and budget < 0:
            break
        kept.append(line)
        has_question = has_question or line.role is ChatRole.USER
    while len(kept) > 1 and kept[-1].role is ChatRole.ASSISTANT:
        kept.pop()
    return tuple(reversed(kept))


class LocalChat:
    def __init__(
        self,
        process: LocalModelProcess,
        client: httpx.AsyncClient,
        *,
        model: str,
        max_tokens: int,
        prompt_tokens: int,
        read_interval: float,
    ) -> None:
        self._process = process
        self._model = model
        self._max_tokens = max_tokens
        self._prompt_tokens = prompt_tokens
        self._endpoint = OpenAIEndpoint("")
        self._chat = OpenAIChat(client, lambda: self._endpoint, read_interval=read_interval)
        self._faithful_chat = OpenAIChat(
            client, lambda: replace(self._endpoint, extra=_FAITHFUL_SAMPLING), read_interval=read_interval
        )

    async def aclose(self) -> None:
        await self._chat.aclose()
        await self._process.aclose()

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        if call.model != self._model:
            raise ModelNotFound(f"The local provider has one model: `{self._model}`.")
        self._endpoint = await self._process.endpoint()
        chat = self._faithful_chat if call.pinned else self._chat
        async with aclosing(chat.stream(self._fitted(call))) as events:
            async for event in events:
                yield event

    def _fitted(self, call: ModelCall) -> ModelCall:
        system = call.system_text()
        pinned = call.lines[: call.pinned]
        # Its server reads control tokens in what people say, too.
        spoken = [
            Line(line.role, broken_up(line.showing(()).content))
            for line in call.lines[call.pinned :]
            if line.role is not ChatRole.SYSTEM
        ]
        budget = self._prompt_tokens - (estimated_tokens(system) if system else 0)
        budget -= sum(estimated_tokens(line.content) + _TOKENS_PER_MESSAGE for line in pinned)
        return replace(
            call,
            system_prompt=system,
            lines=(*pinned, *newest_within(spoken, budget)),
            temperature=call.temperature if call.temperature is not None else _TEMPERATURE,
            max_tokens=call.max_tokens or self._max_tokens,
        )
