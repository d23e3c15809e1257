"""The one way to the agent service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Protocol

import httpx
import orjson
from pydantic import TypeAdapter, ValidationError

from chat_api.clients.circuit import CircuitBreaker
from chat_api.config import ApiSettings
from shared.contracts.chat import ChatEvent, ChatRequest, DeltaEvent, DoneEvent, ErrorEvent
from shared.logging import get_logger, request_id_var
from shared.problems import Problem, ProblemDocument
from shared.security import ServiceName, ServiceToken, service_signer
from shared.stream_transport import StreamTransport

log = get_logger("agent")

_CHAT_EVENT: TypeAdapter[ChatEvent] = TypeAdapter(ChatEvent)
AGENT_RESTARTING = "agent-restarting"
"""Code of the problem that an agent ends its turns with when it is told to stop."""
_UNAVAILABLE_STATUSES = frozenset({502, 503, 504})


class AgentUnavailable(Problem):
    """The agent cannot be reached or is not ready. Nothing was said; asking again is safe."""

    status = 503
    code = "agent-unavailable"
    title = "The agent service is unavailable"
    detail = "The agent service does not answer. Try again in a moment."
    retry_after = 2


class AgentBrokeOff(Problem):
    """The agent stopped in the middle of an answer. What was said before it stands."""

    status = 502
    code = "agent-broke-off"
    title = "The agent service broke off"
    detail = "The connection to the agent service ended in the middle of the reply."


class AgentRefused(Problem):
    """The agent answered with a problem of its own, which is the one to show."""

    def __init__(self, document: ProblemDocument) -> None:
        super().__init__(document.detail)
        self.problem = document

    def document(self, request_id: str | None = None) -> ProblemDocument:
        return self.problem.model_copy(update={"request_id": request_id or self.problem.request_id})


class Agent(Protocol):
    """What the chat API needs of the agent; tests inject a scripted one."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """One turn. Ends with `DoneEvent` or `ErrorEvent`, or raises one of the problems above."""
        ...


class HttpAgent:
    """Speaks to the agent over HTTP. Closing the iterator closes the connection, which stops the model."""

    def __init__(self, settings: ApiSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        signer = service_signer(
            settings.service_key.get_secret_value(), issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE
        )
        self._token = ServiceToken(signer, ServiceName.CHAT_API)
        self._breaker = CircuitBreaker(settings.breaker_failures, settings.breaker_open_seconds)
        self._client = httpx.AsyncClient(
            base_url=settings.agent_base_url,
            transport=transport
            or StreamTransport(
                connect_seconds=settings.agent_connect_seconds, silence_seconds=settings.agent_silence_seconds
            ),
            timeout=None,  # noqa: S113 - the transport has its own, and does not hear of these
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def ping(self) -> None:
        response = await self._client.get("/health/live")
        response.raise_for_status()

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        if not self._breaker.allow():
            raise AgentUnavailable(retry_after=self._breaker.retry_after())
        settled = False
        try:
            async with self._client.stream(
                "POST", "/v1/chat", content=request.model_dump_json(exclude_none=True), headers=self._headers()
            ) as response:
                if response.status_code != 200:
                    problem = await _refusal(response)
                    self._settle(failed=isinstance(problem, AgentUnavailable))
                    settled = True
                    raise problem
                self._settle(failed=False)
                settled = True
                async with aclosing(_events(response)) as events:
                    async for event in events:
                        yield event
        except httpx.TransportError as error:
            log.warning("agent.unreachable", error=type(error).__name__)
            if settled:
                raise AgentBrokeOff from None
            self._settle(failed=True)
            settled = True
            raise AgentUnavailable from None
        finally:
            if not settled:
                self._breaker.abandoned()

    def _settle(self, *, failed: bool) -> None:
        if failed:
            self._breaker.failed()
        else:
            self._breaker.succeeded()

    def _headers(self) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self._token()}",
            "Accept": "text/event-stream",
            "Content-Type": "application/json",
        }
        request_id = request_id_var.get()
        if request_id is not None:
            headers["X-Request-ID"] = request_id
        return headers


async def _refusal(response: httpx.Response) -> Problem:
    body = await response.aread()
    if response.status_code in _UNAVAILABLE_STATUSES:
        return AgentUnavailable()
    try:
        return AgentRefused(ProblemDocument.model_validate_json(body))
    except ValidationError:
        log.warning("agent.unreadable_refusal", status=response.status_code)
        return AgentBrokeOff(f"The agent service answered with status {response.status_code}.")


async def _events(response: httpx.Response) -> AsyncGenerator[ChatEvent, None]:
    buffer = b""
    async for chunk in response.aiter_raw():
        buffer += chunk
        *frames, buffer = buffer.split(b"\n\n")
        for event in _parse(frames):
            yield event
            if isinstance(event, DoneEvent | ErrorEvent):
                return
    raise AgentBrokeOff


def _text_of(delta: dict[str, Any]) -> str:
    """The hot path: one check instead of a model. Raises `KeyError` and `TypeError`."""
    text = delta["text"]
    if not isinstance(text, str):
        raise TypeError
    return text


def _parse(frames: list[bytes]) -> Iterator[ChatEvent]:
    """The events of some frames, neighbouring deltas joined: what arrives together travels together."""
    texts: list[str] = []
    for frame in frames:
        data = b"".join(line[5:].strip() for line in frame.split(b"\n") if line.startswith(b"data:"))
        if not data:
            continue  # a comment that keeps the connection open
        try:
            raw = orjson.loads(data)
            if raw["type"] == "delta" and isinstance(raw["text"], str):
                texts.append(_text_of(raw))
                continue
            event = _CHAT_EVENT.validate_python(raw)
        except (ValueError, KeyError, TypeError):
            if texts:
                yield DeltaEvent(text="".join(texts))
            raise AgentBrokeOff("The agent service sent something that is not an event.") from None
        if texts:
            yield DeltaEvent(text="".join(texts))
            texts = []
        yield event
    if texts:
        yield DeltaEvent(text="".join(texts))
