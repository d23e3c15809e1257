"""MCP over streamable HTTP: the SDK's own transport, upon an httpx transport that leaves it no surprises.

In the SDK a refused call ends the whole session, a broken stream leaves its call without an answer for good, and an
answer may be of any size. Below it therefore: every request gets exactly one answer, if need be an error of ours, in
bounded time and size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
from mcp.client.streamable_http import streamable_http_client

from agent_service.adapters.mcp_config import HttpServer
from agent_service.adapters.mcp_link import (
    MAX_MESSAGE_BYTES,
    NOT_SENT,
    OUTCOME_UNKNOWN,
    REFUSED,
    SESSION_GONE,
    Flooded,
    FloodMeter,
    Link,
)
from shared.stream_transport import StreamTransport

_CONNECT_SECONDS = 5.0
_NOTICE_SECONDS = 2.0
_LISTEN_PAUSE_SECONDS = 1.0
_JSON = "application/json"
_SSE = "text/event-stream"
# Busy, or in the way: the server itself has not seen the call.
_NOT_NOW = {408, 425, 429}


@asynccontextmanager
async def http_link(server: HttpServer, *, call_seconds: float) -> AsyncGenerator[Link]:
    """A call that is not answered for `call_seconds` is given up, also where nobody waits for it any more."""
    transport = AnsweringTransport(StreamTransport(connect_seconds=_CONNECT_SECONDS), call_seconds=call_seconds)
    headers = {name: value.get_secret_value() for name, value in server.headers.items()}
    # What is packed may unpack to any size. Proxies of the environment are not heeded.
    headers |= {"Accept-Encoding": "identity"}
    async with (
        httpx.AsyncClient(transport=transport, headers=headers, timeout=None, trust_env=False) as client,  # noqa: S113
        streamable_http_client(server.url, http_client=client) as (incoming, outgoing, _),
    ):
        link = Link(incoming, outgoing)
        transport.link = link
        yield link


class AnsweringTransport(httpx.AsyncBaseTransport):
    def __init__(self, below: httpx.AsyncBaseTransport, *, call_seconds: float) -> None:
        self._below = below
        self._call_seconds = call_seconds
        self._listened_at = float("-inf")
        self.link: Link | None = None

    async def aclose(self) -> None:
        await self._below.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        match request.method:
            case "GET":
                return await self._listen(request)
            case "POST":
                message: dict[str, Any] = orjson.loads(await request.aread())
                if "method" in message and "id" in message:
                    return await self._ask(request, message["id"])
        return await self._tell(request)

    async def _tell(self, request: httpx.Request) -> httpx.Response:
        """What needs no answer. That it did not arrive is no reason to end a session."""
        try:
            async with asyncio.timeout(_NOTICE_SECONDS):
                response = await self._below.handle_async_request(request)
                await response.aclose()
        except (httpx.TransportError, TimeoutError):
            return httpx.Response(202, request=request)
        if response.is_redirect:
            return _redirect(response)
        if response.status_code == 404:
            self._lose("It does not know the session any more.")
        return httpx.Response(202, request=request)

    async def _listen(self, request: httpx.Request) -> httpx.Response:
        """The stream of what the server says unasked. The SDK opens it again as often as the server likes."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._listened_at + _LISTEN_PAUSE_SECONDS - loop.time())
        self._listened_at = loop.time()
        response = await self._below.handle_async_request(request)
        if response.is_redirect:
            await response.aclose()
            return _redirect(response)
        if response.status_code != 200 or _is_packed(response) or not _type_of(response).startswith(_SSE):
            await response.aclose()
            return httpx.Response(405, request=request)
        stream = _EventStream(response, self._lose)
        return httpx.Response(200, headers={"Content-Type": _SSE}, stream=stream, request=request)

    async def _ask(self, request: httpx.Request, request_id: Any) -> httpx.Response:
        def error(code: int, message: str) -> bytes:
            return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})

        deadline = asyncio.get_running_loop().time() + self._call_seconds
        headers: dict[str, str] = {}
        try:
            response = await self._send(request, deadline)
            if response.is_redirect:
                await response.aclose()
                return _redirect(response)
            headers = {name: value for name, value in response.headers.items() if name == "mcp-session-id"}
            answer = await self._whole(response, deadline)
        except _NoAnswer as reason:
            answer = error(reason.code, str(reason))
        if answer is not None:
            return httpx.Response(200, headers=headers | {"Content-Type": _JSON}, content=answer, request=request)
        last = error(OUTCOME_UNKNOWN, "The server's answer broke off.")
        stream = _EventStream(response, self._lose, deadline=deadline, last=last)
        return httpx.Response(200, headers=headers | {"Content-Type": _SSE}, stream=stream, request=request)

    async def _send(self, request: httpx.Request, deadline: float) -> httpx.Response:
        """Raises `_NoAnswer`."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._below.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise _NoAnswer("The server cannot be reached.", NOT_SENT) from None
        except (httpx.TransportError, TimeoutError):
            raise _NoAnswer("The server did not answer.", OUTCOME_UNKNOWN) from None

    async def _whole(self, response: httpx.Response, deadline: float) -> bytes | None:
        """The body of an answer that is no stream; None for a stream, which stays open. Raises `_NoAnswer`."""
        is_stream = False
        try:
            _check(response)
            is_stream = _type_of(response).startswith(_SSE)
            if is_stream:
                return None
            async with asyncio.timeout_at(deadline):
                return await _read_json(response)
        except (httpx.TransportError, TimeoutError):
            raise _NoAnswer("The server's answer broke off.", OUTCOME_UNKNOWN) from None
        finally:
            if not is_stream:
                await response.aclose()

    def _lose(self, reason: str) -> None:
        if self.link is not None:
            self.link.lose(reason)


class _NoAnswer(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class _EventStream(httpx.AsyncByteStream):
    """Hands on events up to a deadline, none of them longer than a message may be.

    The SDK stops reading at the answer. Whoever reads to the end has seen none, and gets `last` for it.
    """

    def __init__(
        self, response: httpx.Response, lose: Any, *, deadline: float | None = None, last: bytes | None = None
    ) -> None:
        self._response = response
        self._lose = lose
        self._deadline = deadline
        self._last = last

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._response.stream)  # type: ignore[arg-type]  # of an async transport it is an async stream
        meter = FloodMeter()
        held = 0
        tail = b""
        try:
            while True:
                async with asyncio.timeout_at(self._deadline):
                    piece = await anext(pieces)
                meter.count(len(piece))
                seen = (tail + piece).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                boundary = seen.rfind(b"\n\n")
                held = held + len(piece) if boundary < 0 else len(seen) - boundary
                meter.hold(held)
                tail = piece[-3:]
                yield piece
        except Flooded as error:
            self._lose(str(error))
        except (StopAsyncIteration, httpx.TransportError, TimeoutError):
            pass
        if self._last is not None:
            yield b"\n\nevent: message\ndata: " + self._last + b"\n\n"

    async def aclose(self) -> None:
        await self._response.aclose()


def _check(response: httpx.Response) -> None:
    """Raises `_NoAnswer` unless it has a body that may be the server's answer."""
    status = response.status_code
    if status == 404 and "mcp-session-id" in response.request.headers:
        raise _NoAnswer("The server does not know the session any more.", SESSION_GONE)
    if status in _NOT_NOW:
        raise _NoAnswer(f"The server does not take the call now (HTTP {status}).", NOT_SENT)
    if 400 <= status < 500:
        raise _NoAnswer(f"The server refused the call (HTTP {status}).", REFUSED)
    if status != 200 or _is_packed(response):
        raise _NoAnswer(f"The server failed (HTTP {status}).", OUTCOME_UNKNOWN)


async def _read_json(response: httpx.Response) -> bytes:
    """Raises `_NoAnswer` and `httpx.TransportError`."""
    body = bytearray()
    async for piece in response.stream:  # type: ignore[union-attr]  # of an async transport it is an async stream
        body += piece
        if len(body) > MAX_MESSAGE_BYTES:
            raise _NoAnswer("The server's answer is too large.", OUTCOME_UNKNOWN)
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _NoAnswer("The server's answer is not JSON.", OUTCOME_UNKNOWN) from None
    return bytes(body)


def _redirect(response: httpx.Response) -> httpx.Response:
    """For the SDK to decide about: it follows them within the server's own origin only."""
    headers = {"Location": response.headers["location"]}
    return httpx.Response(response.status_code, headers=headers, request=response.request)


def _type_of(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).lower()


def _is_packed(response: httpx.Response) -> bool:
    return str(response.headers.get("content-encoding", "identity")).lower() != "identity"
