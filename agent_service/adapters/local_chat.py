"""The small model on this machine. It speaks OpenAI's API, and wants to be spoken to briefly."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import httpx

from agent_service.adapters.local_process import LocalModelProcess
from agent_service.adapters.local_tools import MAX_ROUNDS, ToolTurn, can_be_written, chosen, grammar, without_calls
from agent_service.adapters.openai_chat import OpenAIChat, OpenAIEndpoint
from agent_service.domain.problems import ContextTooLong, ModelNotFound, ModelRejected
from agent_service.domain.tokens import estimated_tokens
from agent_service.domain.turn import (
    CallWanted,
    Finished,
    Line,
    ModelCall,
    ModelEvent,
    TextPiece,
    UsageReport,
    added,
)
from agent_service.prompts.control_tokens import broken_up
from agent_service.prompts.tool_decision import answer_prompt, choice_prompt, fitting, told
from shared.contracts.chat import ChatRole, FinishReason, ToolChoice, Usage
from shared.logging import get_logger

log = get_logger("model.local")

_TEMPERATURE = 0.3  # hotter, a model of this size wanders off
_TOKENS_PER_MESSAGE = 5
_CHOICE_TOKENS = 160
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


@dataclass(frozen=True, slots=True)
class _Choice:
    """The call that the model wants, if any, and what it took to find out."""

    wanted: CallWanted | None
    spent: Usage | None


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
        self._client = client
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
        self._endpoint = replace(await self._process.endpoint(), keeps_connections=False)
        choice = _Choice(None, None)
        if call.tools or any(line.role is ChatRole.TOOL for line in call.lines):
            turn = ToolTurn.of(call)
            choice = await self._choose(call, turn)
            call = self._answering(call, turn)
        if choice.wanted is not None:
            if choice.spent is not None:
                yield UsageReport(choice.spent)
            yield choice.wanted
            yield Finished(FinishReason.TOOL_CALLS)
            return
        chat = self._faithful_chat if call.pinned else self._chat
        async with aclosing(chat.stream(self._fitted(call))) as events:
            async for event in events:
                if isinstance(event, UsageReport) and (usage := added(choice.spent, event.usage)) is not None:
                    yield UsageReport(usage)
                else:
                    yield event

    async def _choose(self, call: ModelCall, turn: ToolTurn) -> _Choice:
        """Ask for a tool first, where one may help: the model cannot speak and call in one answer."""
        must_call = call.tool_choice is ToolChoice.REQUIRED
        if call.tool_choice is ToolChoice.NONE or turn.rounds >= MAX_ROUNDS:
            return _Choice(None, None)
        offered = [tool for tool in call.tools if tool.name not in turn.called and can_be_written(tool)]
        tools = fitting(turn.question, offered, must_call=must_call)
        if not tools:
            return _Choice(None, None)
        system, lines = choice_prompt(turn.question, tools)
        extra = {"response_format": grammar(tools, must_call=must_call)}
        chat = OpenAIChat(self._client, lambda: replace(self._endpoint, extra=extra), read_interval=0)
        asked = ModelCall(
            provider=call.provider,
            model=call.model,
            lines=lines,
            system_prompt=system,
            temperature=0,
            max_tokens=_CHOICE_TOKENS,
        )
        texts: list[str] = []
        spent: Usage | None = None
        try:
            async with aclosing(chat.stream(asked)) as events:
                async for event in events:
                    if isinstance(event, TextPiece):
                        texts.append(event.text)
                    elif isinstance(event, UsageReport):
                        spent = event.usage
        except (ModelRejected, ContextTooLong) as problem:
            # It cannot make a grammar of these tools: it can still speak.
            log.warning("local_model.no_choice", code=problem.code, tools=[tool.name for tool in tools])
        return _Choice(chosen("".join(texts), turn.question, tools, must_call=must_call), spent)

    def _answering(self, call: ModelCall, turn: ToolTurn) -> ModelCall:
        """The call without its tools: what they said is part of the question, other calls and results are left out."""
        if not turn.results:
            return replace(call, lines=without_calls(call.lines), tools=())
        if call.pinned:
            said = told(turn.results, self._prompt_tokens // 2)
            question = replace(call.lines[turn.asked_at], content=f"{call.lines[turn.asked_at].content}\n{said}")
            return replace(call, lines=(*without_calls(call.lines[: turn.asked_at]), question), tools=())
        system, lines = answer_prompt(turn.question, turn.results, self._prompt_tokens)
        system = "\n\n".join(part for part in (call.system_text(), system) if part)
        temperature = 0 if call.temperature is None else call.temperature
        return replace(
            call, system_prompt=system, lines=lines, pinned=len(lines) - 1, tools=(), temperature=temperature
        )

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
