"""The small model on this machine. It speaks OpenAI's API, and wants to be spoken to briefly."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import httpx

from agent_service.adapters.local_process import LocalModelProcess
from agent_service.adapters.openai_chat import OpenAIChat, OpenAIEndpoint
from agent_service.domain.problems import ModelNotFound
from agent_service.domain.turn import Line, ModelCall, ModelEvent
from shared.contracts.chat import ChatRole

_TEMPERATURE = 0.3  # hotter, a model of this size wanders off
_TOKENS_PER_MESSAGE = 5


def estimated_tokens(text: str) -> int:
    """About how many tokens a text takes: four ASCII characters each, other scripts up to two per character."""
    plain = len(text.encode("ascii", "ignore"))
    return -(-plain // 4) + 2 * (len(text) - plain)


def newest_within(lines: Sequence[Line], budget: int) -> tuple[Line, ...]:
    """The newest lines that fit the budget of tokens, and the last one whether it fits or not.

    What follows is never an answer without its question: a reply at the front is left out as well.
    """
    kept: list[Line] = []
    for line in reversed(lines):
        budget -= estimated_tokens(line.content) + _TOKENS_PER_MESSAGE
        if kept and budget < 0:
            break
        kept.append(line)
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

    async def aclose(self) -> None:
        await self._chat.aclose()
        await self._process.aclose()

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        if call.model != self._model:
            raise ModelNotFound(f"The local provider has one model: `{self._model}`.")
        self._endpoint = await self._process.endpoint()
        async with aclosing(self._chat.stream(self._fitted(call))) as events:
            async for event in events:
                yield event

    def _fitted(self, call: ModelCall) -> ModelCall:
        system = call.system_text()
        spoken = [line for line in call.lines if line.role is not ChatRole.SYSTEM]
        budget = self._prompt_tokens - (estimated_tokens(system) if system else 0)
        return replace(
            call,
            system_prompt=system,
            lines=newest_within(spoken, budget),
            temperature=call.temperature if call.temperature is not None else _TEMPERATURE,
            max_tokens=call.max_tokens or self._max_tokens,
        )
