"""What every call to the agent service has in common: who we are, when not to try, and what its errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import httpx
from pydantic import ValidationError

from chat_api.clients.circuit import CircuitBreaker
from chat_api.config import ApiSettings
from shared.logging import get_logger, request_id_var
from shared.openai.error_body import OpenAIError
from shared.problems import Problem, ProblemDocument
from shared.security import ServiceName, ServiceToken, service_signer
from shared.stream_transport import StreamTransport

log = get_logger("agent")

EVENT_STREAM = "text/event-stream"
_SUCCESSES = frozenset({200, 204})
_UNAVAILABLE_STATUSES = frozenset({502, 503, 504})


class AgentUnavailable(Problem):
    """The agent cannot be reached or is not ready. Nothing was said; asking again is safe."""

    status = 503
    code = "agent-unavailable"
    title = "The agent service is unavailable"
    detail = "The agent service does not answer. Try again in a moment."
    retry_after = 2

    def __init__(self, detail: str | None = None, *, retry_after: int | None = None, arrived: bool = False) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.arrived = arrived
        """Whether the agent may have begun to do what it was asked."""


class AgentBrokeOff(Problem):
    """The agent stopped in the middle of an answer. What was said before it stands."""

    status = 502
    code = "agent-broke-off"
    title = "The agent service broke off"
    detail = "The connection to the agent service ended in the middle of the reply."
    retry_after = 2


class AgentRefused(Problem):
    """The agent answered with a problem of its own, which is the one to show."""

    def __init__(self, document: ProblemDocument, *, retry_after: int | None = None) -> None:
        super().__init__(document.detail, retry_after=retry_after)
        self.problem = document
        # As an answer of ours it has the status that it names.
        self.status = document.status  # type: ignore[misc]  # one class for all that the agent may refuse with

    def document(self, request_id: str | None = None) -> ProblemDocument:
        return self.problem.model_copy(update={"request_id": request_id or self.problem.request_id})


class AgentConnection:
    """Calls to the agent over kept connections, as the chat API, with a circuit breaker before them."""

    def __init__(self, settings: ApiSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        signer = service_signer(settings.service_keys, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
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

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        content: str | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer to one call, a success, with its body still to be read. Leaving early closes the connection.

        Raises `AgentUnavailable` and `AgentRefused` before the body, and `AgentBrokeOff` when that ends too soon.
        """
        if not self._breaker.allow():
            raise AgentUnavailable(retry_after=self._breaker.retry_after())
        settled = False
        try:
            async with self._client.stream(
                method, path, content=content, params=params, headers=self._headers(accept)
            ) as response:
                problem = None if response.status_code in _SUCCESSES else await _refusal(response)
                self._settle(failed=isinstance(problem, AgentUnavailable))
                settled = True
                if problem is not None:
                    raise problem
                yield response
        except httpx.TransportError as error:
            log.warning("agent.unreachable", error=type(error).__name__)
            if settled:
                raise AgentBrokeOff from None
            self._settle(failed=True)
            settled = True
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise AgentUnavailable(arrived=not unsent) from None
        finally:
            if not settled:
                self._breaker.abandoned()

    async def call(
        self,
        method: str,
        path: str,
        *,
        seconds: float,
        content: str | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> bytes:
        """The whole body of one answer, within `seconds`. Raises what `exchange` does."""
        try:
            async with (
                asyncio.timeout(seconds),
                self.exchange(method, path, accept="application/json", content=content, params=params) as response,
            ):
                return await response.aread()
        except TimeoutError:
            self._breaker.failed()
            log.warning("agent.slow", path=path, seconds=seconds)
            raise AgentUnavailable from None

    def _settle(self, *, failed: bool) -> None:
        if failed:
            self._breaker.failed()
        else:
            self._breaker.succeeded()

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self._token()}",
            "Accept": accept,
            "Content-Type": "application/json",
        }
        request_id = request_id_var.get()
        if request_id is not None:
            headers["X-Request-ID"] = request_id
        return headers


async def _refusal(response: httpx.Response) -> Problem:
    body = await response.aread()
    retry_after = _seconds(response.headers.get("Retry-After"))
    document = _document(response, body)
    if document is None:
        if response.status_code in _UNAVAILABLE_STATUSES:
            # Not the agent's own words: somebody between us may have passed it on before they gave up.
            return AgentUnavailable(retry_after=retry_after, arrived=True)
        log.warning("agent.unreadable_refusal", status=response.status_code)
        return AgentBrokeOff(f"The agent service answered with status {response.status_code}.")
    if response.status_code in _UNAVAILABLE_STATUSES:
        # What it waits for itself, such as a model, is what the reader wants to know.
        return AgentUnavailable(document.detail, retry_after=retry_after)
    return AgentRefused(document, retry_after=retry_after)


def _document(response: httpx.Response, body: bytes) -> ProblemDocument | None:
    """The problem in a refusal. At the agent's OpenAI-compatible doors it has another shape."""
    with suppress(ValidationError):
        return ProblemDocument.model_validate_json(body)
    with suppress(ValidationError):
        error = OpenAIError.model_validate_json(body).error
        code = error.code or "agent-refused"
        return ProblemDocument(title=code, status=response.status_code, detail=error.message, code=code)
    return None


def _seconds(retry_after: str | None) -> int | None:
    return int(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else None


async def event_data(response: httpx.Response) -> AsyncGenerator[list[bytes], None]:
    """The data of server-sent events, in lists of what arrived together. Comments are left out."""
    buffer = b""
    async for chunk in response.aiter_raw():
        buffer += chunk
        *frames, buffer = buffer.split(b"\n\n")
        if arrived := [data for data in map(_data, frames) if data]:
            yield arrived


def _data(frame: bytes) -> bytes:
    return b"".join(line[5:].strip() for line in frame.split(b"\n") if line.startswith(b"data:"))
