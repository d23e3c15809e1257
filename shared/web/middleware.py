"""The one middleware: request id, body limit, hostile addresses, metrics and the access log.

It is plain ASGI: Starlette's `BaseHTTPMiddleware` costs a third of the throughput and breaks streams.
It is one rather than four because each layer costs about 5 % (see facts in `docs/adr/0003`).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.logging import get_logger, request_id_var
from shared.problems import MalformedRequest, PayloadTooLarge, Problem
from shared.telemetry import HttpMetrics
from shared.web.responses import ProblemShape, as_document

log = get_logger("http")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_ANSWER_HEADERS = "colloquy.answer_headers"
_QUIET_PATHS = frozenset({"/health/live", "/health/ready", "/health/db", "/metrics"})


@dataclass(frozen=True, slots=True)
class LargeBody:
    """A route that takes more than JSON: `path` matches all of its path."""

    method: str
    path: re.Pattern[str]
    max_bytes: int


def answer_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Headers that the answer to this request will have, whatever it is: add to them until it begins."""
    headers: list[tuple[bytes, bytes]] = scope.setdefault(_ANSWER_HEADERS, [])
    return headers


class _BodyTooLarge(HTTPException):
    """Raised inside `receive` when a body without a length grows past the limit.

    An `HTTPException`, because FastAPI takes any other error there for a body that it could not parse.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(PayloadTooLarge.status, _too_large(limit).detail)


class RequestMiddleware:
    """Wraps every HTTP request. Sockets and lifespan pass through untouched."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        metrics: HttpMetrics,
        large_bodies: Sequence[LargeBody] = (),
        shape: ProblemShape = as_document,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._large_bodies = large_bodies
        self._metrics = metrics
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id, length = _read_headers(scope)
        request_id_var.set(request_id)
        # The list itself stays: routers may copy what holds it.
        added = answer_headers(scope)
        added.append((b"x-request-id", request_id.encode()))
        status = 500
        responded = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, responded
            if message["type"] == "http.response.start":
                status = message["status"]
                responded = True
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], *added]
            await send(message)

        limit = self._limit_of(scope, length)
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    raise _BodyTooLarge(limit)
            return message

        try:
            refusal = _refusal(scope, length, limit)
            if refusal is not None:
                await self._shape(refusal, scope["path"])(scope, receive, send_with_id)
            else:
                await self._app(scope, limited_receive, send_with_id)
        except _BodyTooLarge:
            if responded:
                raise
            await self._shape(_too_large(limit), scope["path"])(scope, receive, send_with_id)
        finally:
            self._account(scope, status, time.perf_counter() - started)

    def _limit_of(self, scope: Scope, length: int | None) -> int:
        """The routes are only looked at for the few bodies that JSON's limit does not let pass by their length."""
        if length is None or length > self._max_body_bytes:
            for large in self._large_bodies:
                if scope["method"] == large.method and large.path.fullmatch(scope["path"]):
                    return large.max_bytes
        return self._max_body_bytes

    def _account(self, scope: Scope, status: int, elapsed: float) -> None:
        self._metrics.observe(scope["method"], _route(scope), status, elapsed)
        if scope["path"] not in _QUIET_PATHS:
            log.info(
                "http.request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round(elapsed * 1000, 1),
            )


def _route(scope: Scope) -> str:
    """The template of the route that answered, with the prefix it was included under."""
    included = scope.get("fastapi", {}).get("effective_route_context")
    path: str = getattr(included or scope.get("route"), "path", "unmatched")
    return path


def _read_headers(scope: Scope) -> tuple[str, int | None]:
    """The request id (taken or made) and the declared length of the body."""
    request_id: str | None = None
    length: int | None = None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            request_id = value.decode()
        elif name == b"content-length" and value.isdigit():
            length = int(value)
    return request_id or uuid.uuid4().hex, length


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body may have {limit} bytes at most.")


def _refusal(scope: Scope, length: int | None, limit: int) -> Problem | None:
    if length is not None and length > limit:
        return _too_large(limit)
    # A NUL cannot be stored, looked up or logged; a percent-encoded one is never an honest mistake.
    if b"%00" in scope["query_string"] or "\x00" in scope["path"]:
        return MalformedRequest("The address contains a NUL character.")
    return None
