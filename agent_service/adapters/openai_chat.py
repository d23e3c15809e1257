"""Chat models behind OpenAI's REST API, straight over httpx: see `docs/adr/0002-model-adapters.md` for why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import httpx
import orjson

from agent_service.adapters.event_splitter import EventSplitter, EventTooLarge
from agent_service.adapters.openai_messages import encoded_body
from agent_service.adapters.provider_status import problem_for_status
from agent_service.adapters.wanted_calls import CallAssembler
from agent_service.domain.problems import (
    ContextTooLong,
    ModelProblem,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent_service.domain.turn import Finished, ModelCall, ModelEvent, TextPiece, UsageReport
from shared.contracts.chat import FinishReason, Usage
from shared.logging import get_logger, request_id_var

log = get_logger("model.openai")

_DONE = b"[DONE]"
_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_CUT = frozenset({FinishReason.LENGTH, FinishReason.CONTENT_FILTER})
_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_NO_MORE_CREDIT = "insufficient_quota"
_MAX_REFUSAL_BYTES = 64 * 1024
_ENDING_SECONDS = 0.1
_AWAITED_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """Where the API is. `base_url` ends before `/chat/completions`; `extra` goes into every request's body.

    A server that closes its connection after a stream, although it says that it keeps it, is not to be asked twice on
    the same one: `keeps_connections` tells.
    """

    base_url: str
    api_key: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    keeps_connections: bool = True

    @property
    def is_openai_itself(self) -> bool:
        return _host(self.base_url) == "api.openai.com"


@lru_cache(maxsize=16)
def _host(base_url: str) -> str:
    # Asked before every call, of one address or two.
    return httpx.URL(base_url).host


class OpenAIChat:
    """Streams `POST {base_url}/chat/completions`.

    `read_interval` (seconds) is the least time between two reads of a stream that already speaks: what arrives
    meanwhile waits in the socket and is read at once, which makes a token cheaper.
    """

    def __init__(
        self, client: httpx.AsyncClient, endpoint: Callable[[], OpenAIEndpoint], *, read_interval: float
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._read_interval = read_interval

    async def aclose(self) -> None:
        await self._client.aclose()

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        response = await self._open(call)
        try:
            async with aclosing(self._read(response, has_tools=bool(call.tools))) as events:
                async for event in events:
                    yield event
        except httpx.TransportError as error:
            raise _unavailable(error) from None
        except EventTooLarge:
            raise ModelUnavailable("The model's server sends something that is no event stream.") from None
        finally:
            await response.aclose()

    async def _open(self, call: ModelCall) -> httpx.Response:
        endpoint = self._endpoint()
        request = self._client.build_request(
            "POST",
            f"{endpoint.base_url}/chat/completions",
            content=encoded_body(call, endpoint.extra, is_openai_itself=endpoint.is_openai_itself),
            headers=_headers(endpoint),
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise _unavailable(error) from None
        if response.status_code == 200:
            return response
        try:
            raise await _refusal(response)
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response, *, has_tools: bool) -> AsyncGenerator[ModelEvent]:
        """Raises what the server reports, and `ModelUnavailable` for a stream that was cut."""
        loop = asyncio.get_running_loop()
        splitter = EventSplitter()
        reply = _Reply(CallAssembler() if has_tools else None)
        chunks = response.aiter_raw()
        asked = loop.time()
        async for chunk in chunks:
            for event in reply.read(splitter.feed(chunk)):
                yield event
            if reply.over:
                break
            # A chunk that had to be awaited was the first of what the socket held.
            if reply.has_text and loop.time() - asked > _AWAITED_SECONDS:
                await asyncio.sleep(self._read_interval)
            asked = loop.time()
        if not reply.over:
            for event in reply.read(splitter.finish()):
                yield event
        for event in reply.ending():
            yield event
        # Read to the end of the response, so that the connection can serve the next call.
        with suppress(TimeoutError, httpx.TransportError):
            async with asyncio.timeout(_ENDING_SECONDS):
                async for _ in chunks:
                    pass


class _Reply:
    """Turns the payloads of events into what the model said. `over` after `[DONE]` or an error.

    Without a place for `calls` there are none: nobody offered tools.
    """

    def __init__(self, calls: CallAssembler | None) -> None:
        self._calls = calls
        self._heard_calls = False
        self.over = False
        self.has_text = False
        self._finish: FinishReason | None = None
        self._error: ModelProblem | None = None

    def read(self, payloads: list[bytes]) -> list[ModelEvent]:
        texts: list[str] = []
        events: list[ModelEvent] = []
        for payload in payloads:
            try:
                self._read_one(payload, texts, events)
            except (ValueError, TypeError, AttributeError, LookupError):
                self._fail(ModelUnavailable("The model's server sends something that is no chat completion."))
            if self.over:
                break
        if texts:
            self.has_text = True
            events.insert(0, TextPiece(texts[0] if len(texts) == 1 else "".join(texts)))
        elif self._heard_calls and not events:
            # Arguments take a while to write, and a turn waits for a silent model only so long.
            events.append(TextPiece(""))
            self._heard_calls = False
        return events

    def ending(self) -> list[ModelEvent]:
        """The calls, then the end. Raises what the server reported, and `ModelUnavailable` for a cut stream."""
        if self._error is not None:
            raise self._error
        if self._finish is None and not self.over:
            raise ModelUnavailable("The model broke off in the middle of its answer.")
        finish = self._finish or FinishReason.STOP
        # Of an answer that was cut, nobody knows which calls are whole: none is made.
        if self._calls is None or finish in _CUT or not (calls := self._calls.calls()):
            return [Finished(finish)]
        if self._calls.is_cut:
            log.warning("model.calls_cut", kept=len(calls))
        if not all(call.name for call in calls):
            raise ModelUnavailable("The model's server sends a call of no tool.")
        return [*calls, Finished(FinishReason.TOOL_CALLS)]

    def _read_one(self, payload: bytes, texts: list[str], events: list[ModelEvent]) -> None:
        if payload == _DONE:
            self.over = True
            return
        chunk = _loads(payload)
        if "error" in chunk and (error := chunk["error"]):
            self._fail(_reported(error))
            return
        if choices := chunk.get("choices"):
            choice = choices[0]
            delta = choice.get("delta")
            if delta and (text := delta.get("content")):
                if not isinstance(text, str):
                    raise TypeError
                texts.append(text)
            if self._calls is not None and delta and (fragments := delta.get("tool_calls")):
                self._calls.feed(fragments)
                self._heard_calls = True
            if reason := choice.get("finish_reason"):
                self._finish = _FINISH.get(reason, FinishReason.STOP)
        if usage := chunk.get("usage"):
            events.append(UsageReport(_usage(usage)))

    def _fail(self, problem: ModelProblem) -> None:
        self._error = problem
        self.over = True


def _loads(payload: bytes) -> dict[str, Any]:
    """Raises `ValueError`. orjson refuses escaped lone surrogates, which models that stream by token do send."""
    try:
        chunk = orjson.loads(payload)
    except orjson.JSONDecodeError:
        chunk = json.loads(payload)
    if not isinstance(chunk, dict):
        raise TypeError
    return chunk


def _usage(usage: dict[str, Any]) -> Usage:
    prompt, completion = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=int(usage.get("total_tokens") or prompt + completion),
    )


def _headers(endpoint: OpenAIEndpoint) -> dict[str, str]:
    # Compressed, a stream would come in larger lumps and cost more to read.
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if endpoint.api_key:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    if not endpoint.keeps_connections:
        headers["Connection"] = "close"
    if (request_id := request_id_var.get()) is not None:
        headers["X-Request-ID"] = request_id
    return headers


def _unavailable(error: httpx.TransportError) -> ModelProblem:
    log.info("model.unreachable", error=type(error).__name__)
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return ModelUnavailable("The model's server cannot be reached.")
    if isinstance(error, httpx.TimeoutException):
        return ModelTimeout()
    return ModelUnavailable("The connection to the model broke.")


async def _refusal(response: httpx.Response) -> ModelProblem:
    """What an answer other than 200 means. The body may be anything, of any size."""
    body = b""
    with suppress(httpx.TransportError):
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_REFUSAL_BYTES:
                break
    try:
        error = _loads(body).get("error")
    except (ValueError, TypeError):
        error = None
    code, kind = _codes(error)
    log.warning("model.refused", status=response.status_code, code=code, type=kind)
    return _problem_for(response.status_code, {code, kind}, _seconds(response.headers.get("Retry-After")))


def _reported(error: object) -> ModelProblem:
    """What an error in mid-stream means. Some servers put a status in its `code`."""
    code, kind = _codes(error)
    log.warning("model.failed_in_stream", code=code, type=kind)
    return _problem_for(int(code) if code.isdecimal() and len(code) == 3 else 500, {code, kind}, None)


def _codes(error: object) -> tuple[str, str]:
    """The `code` and `type` of OpenAI's error object, cut short. Its message is not for logs."""
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("code") or "")[:80], str(error.get("type") or "")[:80]


def _seconds(header: str | None) -> float | None:
    """`Retry-After` as seconds; its other form, a date, is not used by model servers."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


def _problem_for(status: int, words: set[str], retry_after: float | None) -> ModelProblem:
    if words & _TOO_LONG:
        return ContextTooLong()
    if _NO_MORE_CREDIT in words:
        return ModelRejected("The provider's account has no credit left.")
    return problem_for_status(status, retry_after)
