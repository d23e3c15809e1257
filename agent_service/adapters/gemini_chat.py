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

from agent_service.adapters.provider_status import problem_for_status
from agent_service.domain.problems import ContextTooLong, ModelProblem, ModelTimeout, ModelUnavailable
from agent_service.domain.turn import Finished, Line, ModelCall, ModelEvent, TextPiece, UsageReport
from shared.contracts.chat import ChatRole, FinishReason, ImageType, Usage
from shared.logging import get_logger

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk
    from langchain_google_genai import ChatGoogleGenerativeAI

log = get_logger("model.google_genai")

_MAX_CLIENTS = 16
_TAKEN_IMAGES = frozenset({ImageType.PNG, ImageType.JPEG, ImageType.WEBP})
"""Gemini refuses a turn with any other."""
_FINISH = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
}


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
        # `astream` is declared as an iterator; that it is a generator is what lets us close it.
        chunks = cast("AsyncGenerator[AIMessageChunk]", client.astream(_messages(call), **given))
        reply = _Reply()
        with _provider_errors():
            async with aclosing(chunks):
                async for chunk in chunks:
                    if text := reply.read(chunk):
                        yield TextPiece(text)
        if (usage := reply.usage()) is not None:
            yield UsageReport(usage)
        if reply.finish is None:
            raise ModelUnavailable("The model broke off in the middle of its answer.")
        yield Finished(reply.finish)

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
    """Sums up chunks. Usage comes as differences."""

    def __init__(self) -> None:
        self.finish: FinishReason | None = None
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
            self.finish = _FINISH.get(str(reason), FinishReason.STOP)
        elif (about.get("prompt_feedback") or {}).get("block_reason"):
            self.finish = FinishReason.CONTENT_FILTER
        return str(chunk.text)

    def usage(self) -> Usage | None:
        if not self._total:
            return None
        return Usage(prompt_tokens=self._prompt, completion_tokens=self._completion, total_tokens=self._total)


def _content(line: Line) -> str | list[str | dict[str, Any]]:
    """Text, or LangChain's content blocks."""
    line = line.showing(_TAKEN_IMAGES)
    if not line.images:
        return line.content
    pictures = [{"type": "image", "base64": image.data, "mime_type": image.media_type.value} for image in line.images]
    return [{"type": "text", "text": line.content}, *pictures]


def _messages(call: ModelCall) -> list[tuple[str, str | list[str | dict[str, Any]]]]:
    """In LangChain's short form. Gemini takes one system text, and refuses messages without any."""
    names = {ChatRole.USER: "human", ChatRole.ASSISTANT: "ai"}
    spoken = [line for line in call.lines if line.role in names and (line.content or line.images)]
    messages = [(names[line.role], _content(line)) for line in spoken]
    system = call.system_text()
    if not messages:
        return [("human", system or " ")]
    return [("system", system), *messages] if system is not None else messages


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
