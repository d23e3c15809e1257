"""Gemini, through LangChain's integration.

The library takes about two seconds to import, so it is imported when the first turn needs it, in a thread.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, cast

import httpx

from agent_service.adapters.gemini_messages import SIGNATURES, declarations, messages
from agent_service.adapters.provider_status import problem_for_status
from agent_service.adapters.wanted_calls import bounded
from agent_service.domain.problems import ContextTooLong, ModelProblem, ModelTimeout, ModelUnavailable
from agent_service.domain.turn import CallWanted, Finished, ModelCall, ModelEvent, TextPiece, UsageReport
from shared.contracts.chat import FinishReason, ToolChoice, Usage
from shared.contracts.tools import MAX_CALLS
from shared.logging import get_logger

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk
    from langchain_google_genai import ChatGoogleGenerativeAI

log = get_logger("model.google_genai")

_MAX_CLIENTS = 16
_FINISH = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
}
_SPOILT = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})
"""The model wrote a call that Gemini cannot read, or that nobody offered. Asked again, it often does better."""


class GeminiChat:
    """A client per model name, the most recently used few of them."""

    def __init__(self, *, api_key: str, base_url: str | None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._clients: OrderedDict[str, ChatGoogleGenerativeAI] = OrderedDict()
        self._opening = asyncio.Lock()

    async def aclose(self) -> None:
        while self._clients:
            await self._clients.popitem()[1].aclose()

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        client = await self._client(call.model)
        options = {"temperature": call.temperature, "max_output_tokens": call.max_tokens}
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if call.tools:
            given["tools"] = declarations(call.tools)
            if call.tool_choice is not ToolChoice.AUTO:
                given["tool_choice"] = call.tool_choice.value
        # `astream` is declared as an iterator; that it is a generator is what lets us close it.
        chunks = cast("AsyncGenerator[AIMessageChunk]", client.astream(messages(call), **given))
        reply = _Reply(has_tools=bool(call.tools))
        with _provider_errors():
            async with aclosing(chunks):
                async for chunk in chunks:
                    if text := reply.read(chunk):
                        yield TextPiece(text)
        if (usage := reply.usage()) is not None:
            yield UsageReport(usage)
        for event in reply.ending():
            yield event

    async def _client(self, model: str) -> ChatGoogleGenerativeAI:
        async with self._opening:
            client = self._clients.get(model)
            if client is None:
                client = await asyncio.to_thread(self._open, model)
                self._clients[model] = client
                while len(self._clients) > _MAX_CLIENTS:
                    # Not closed: a turn may still be using it. The library closes what is collected.
                    self._clients.popitem(last=False)
            self._clients.move_to_end(model)
            return client

    def _open(self, model: str) -> ChatGoogleGenerativeAI:
        from langchain_google_genai import ChatGoogleGenerativeAI  # noqa: PLC0415 - two seconds, see above

        return ChatGoogleGenerativeAI(
            model=model,
            api_key=self._api_key,
            base_url=self._base_url,
            max_retries=1,  # counts the first call: retries are the turn's business
            client_args={"limits": httpx.Limits(max_connections=None, max_keepalive_connections=64)},
        )


class _Reply:
    """Sums up chunks. Usage comes as differences. Calls of tools that nobody offered are not heard."""

    def __init__(self, *, has_tools: bool) -> None:
        self._has_tools = has_tools
        self._finish: FinishReason | None = None
        self._calls: list[CallWanted] = []
        self._spoilt = False
        self._prompt = 0
        self._completion = 0
        self._total = 0

    def read(self, chunk: AIMessageChunk) -> str:
        if (usage := chunk.usage_metadata) is not None:
            self._prompt += usage["input_tokens"]
            self._completion += usage["output_tokens"]
            self._total += usage["total_tokens"]
        about = chunk.response_metadata
        if reason := about.get("finish_reason"):
            self._finish = _FINISH.get(str(reason), FinishReason.STOP)
            self._spoilt = str(reason) in _SPOILT
        elif (about.get("prompt_feedback") or {}).get("block_reason"):
            self._finish = FinishReason.CONTENT_FILTER
        if self._has_tools and chunk.tool_call_chunks:
            self._hear_calls(chunk)
        return str(chunk.text)

    def _hear_calls(self, chunk: AIMessageChunk) -> None:
        signatures = chunk.additional_kwargs.get(SIGNATURES) or {}
        for call in chunk.tool_call_chunks:
            if len(self._calls) == MAX_CALLS:
                log.warning("model.calls_cut", kept=MAX_CALLS)
                break
            signature = signatures.get(call["id"])
            wanted = CallWanted(call["id"] or "", call["name"] or "", call["args"] or "{}", signature)
            self._calls.append(bounded(wanted))

    def ending(self) -> list[ModelEvent]:
        """The calls, then the end. Raises `ModelUnavailable` for a cut answer, or one that holds no readable call."""
        if self._finish is None:
            raise ModelUnavailable("The model broke off in the middle of its answer.")
        if self._spoilt:
            raise ModelUnavailable("The model wrote a call of a tool that cannot be read. Try again.")
        if self._calls and self._finish is FinishReason.STOP:
            return [*self._calls, Finished(FinishReason.TOOL_CALLS)]
        return [Finished(self._finish)]

    def usage(self) -> Usage | None:
        if not self._total:
            return None
        return Usage(prompt_tokens=self._prompt, completion_tokens=self._completion, total_tokens=self._total)


@contextmanager
def _provider_errors() -> Iterator[None]:
    """Turns what the library raises into a `ModelProblem`. What is not the provider's doing passes."""
    try:
        yield
    except httpx.TransportError as error:
        log.info("model.unreachable", error=type(error).__name__)
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            raise ModelTimeout from None
        raise ModelUnavailable("The connection to the model broke.") from None
    except ValueError:
        raise ModelUnavailable("The model's server sends something that is no Gemini answer.") from None
    except Exception as error:
        problem = _refusal(error)
        if problem is None:
            raise
        raise problem from None


def _refusal(error: Exception) -> ModelProblem | None:
    from google.genai.errors import APIError  # noqa: PLC0415 - loaded with the first client
    from langchain_core.exceptions import ContextOverflowError  # noqa: PLC0415

    # LangChain wraps client errors and keeps Google's own as their cause.
    answer = error if isinstance(error, APIError) else error.__cause__
    if not isinstance(answer, APIError):
        return None
    log.warning("model.refused", status=answer.code, code=answer.status)
    if isinstance(error, ContextOverflowError):
        return ContextTooLong()
    return problem_for_status(answer.code, asked_to_wait(answer.details))


def asked_to_wait(details: object) -> float | None:
    """Gemini writes `"retryDelay": "13s"` into one of the error's details."""
    if not isinstance(details, Mapping):
        return None
    error = details.get("error", details)
    for detail in error.get("details") or () if isinstance(error, Mapping) else ():
        delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(delay, str) and delay.endswith("s") and delay[:-1].replace(".", "", 1).isdecimal():
            return float(delay[:-1])
    return None
