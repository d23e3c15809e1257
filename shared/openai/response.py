"""Answers a completion, whole or as a stream, and never lets an OpenAI client's own retries run the turn again."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.contracts.chat import LAST_EVENTS, ChatEvent
from shared.logging import get_logger, request_id_var
from shared.openai.completion import DONE, Completion
from shared.openai.errors import DO_NOT_RETRY, Failure, TurnAlreadyBegun, failure_of
from shared.problems import Problem
from shared.web.event_stream import CLIENT_CLOSED, HEARTBEAT, STREAM_HEADERS, while_connected

log = get_logger("completions")

RETRY_COUNT_HEADER = "x-stainless-retry-count"
"""How often OpenAI's clients have tried this call before."""

REMEMBERED_SECONDS = 1_800
"""They wait ten minutes for an answer, and two at most before they try again."""


def fingerprint(sender: str, body: bytes) -> bytes:
    """What makes a request the same as one before: who sent it, and its bytes."""
    return hashlib.sha256(sender.encode() + b"\n" + body).digest()


def is_retry(headers: Mapping[str, str]) -> bool:
    return headers.get(RETRY_COUNT_HEADER, "0") != "0"


class BegunTurns:
    """Remembers for a while which requests were handed to a model.

    A client that timed out, or whose connection broke, tries again by itself and says so in a header; no answer of
    ours could have told it not to. One per process: a retry that another process gets is a new request to that one.
    """

    def __init__(self, *, most: int = 10_000, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = now
        self._begun: OrderedDict[bytes, float] = OrderedDict()

    def begin(self, sender: str, body: bytes, headers: Mapping[str, str]) -> None:
        """To be called right before the turn is handed on. Raises `TurnAlreadyBegun`."""
        now = self._now()
        key = fingerprint(sender, body)
        begun_at = self._begun.pop(key, None)
        self._begun[key] = now
        if len(self._begun) > self._most:
            self._begun.popitem(last=False)
        if is_retry(headers) and begun_at is not None and now - begun_at < REMEMBERED_SECONDS:
            raise TurnAlreadyBegun


async def _never(_: Problem) -> bool:
    return False


class CompletionResponse(Response):
    """Reads a turn to its end, or until the client goes away, which ends the turn.

    A stream begins with its first chunk, so that what fails before is an answer with a status of its own; when the
    model is silent for `heartbeat_seconds`, it begins with a comment, and what fails then is an `error` in it.
    """

    def __init__(
        self,
        events: AsyncGenerator[ChatEvent],
        completion: Completion,
        *,
        stream: bool,
        heartbeat_seconds: float,
        try_again: Callable[[Problem], Awaitable[bool]] = _never,
    ) -> None:
        """`try_again` says of a problem that the events raised whether it is certain that no turn was begun."""
        self._events = events
        self._completion = completion
        self._streams = stream
        self._heartbeat_seconds = heartbeat_seconds
        self._try_again = try_again
        self.status_code = 200
        self.background = None
        self.init_headers(STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if not self._streams:
                answer = await while_connected(self._whole(), receive)
                await answer(scope, receive, send)
                return
            failure = await while_connected(self._stream(send), receive)
            if failure is not None:
                await failure.response()(scope, receive, send)
        except ClientDisconnect:
            if not self._streams:
                await Response(status_code=CLIENT_CLOSED)(scope, receive, send)

    async def _whole(self) -> Response:
        async with aclosing(self._chunks()) as chunks:
            async for _ in chunks:
                pass
        if self._completion.failure is not None:
            return self._completion.failure.response()
        return Response(orjson.dumps(self._completion.answer()), media_type="application/json")

    async def _stream(self, send: Send) -> Failure | None:
        """Returns what failed before anything was sent."""
        line = _Line(send, self.raw_headers, self._heartbeat_seconds)
        heart = asyncio.ensure_future(line.beat())
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    await line.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
        finally:
            heart.cancel()
            await asyncio.wait({heart})
        failure = self._completion.failure
        if failure is not None and not line.begun:
            return failure
        # After an error the clients read no further.
        await line.write(DONE if failure is None else b"data: " + failure.error.model_dump_json().encode() + b"\n\n")
        await line.end()
        return None

    async def _chunks(self) -> AsyncGenerator[dict[str, Any]]:
        """Never raises: an answer without our header would have the client run the turn again."""
        completion = self._completion
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    for chunk in completion.read(event):
                        yield chunk
                    # After its last event the turn ends by itself; broken off, it would count as cancelled.
                    if completion.over and not isinstance(event, LAST_EVENTS):
                        return
        except Problem as problem:
            document = problem.document(request_id_var.get())
            headers = {} if await self._try_again(problem) else DO_NOT_RETRY
            completion.failure = failure_of(document, retry_after=problem.retry_after, headers=headers)
        except Exception:
            # The boundary: whatever broke, the client is told not to try again, and the log has the trace.
            log.exception("completion.broken")
            completion.failure = failure_of(Problem().document(), headers=DO_NOT_RETRY)
        else:
            if not completion.over:
                log.error("completion.unfinished")
                completion.failure = failure_of(Problem().document(), headers=DO_NOT_RETRY)


class _Line:
    """The body of a stream: begun by whoever has something to send first."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]], heartbeat_seconds: float) -> None:
        self._send = send
        self._headers = headers
        self._heartbeat_seconds = heartbeat_seconds
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        # The server may keep the first who writes waiting, while a client still reads the answer before this one.
        self._writing = asyncio.Lock()
        self.begun = False

    async def write(self, body: bytes) -> None:
        async with self._writing:
            self._sent_at = self._loop.time()
            if not self.begun:
                await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
                self.begun = True
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def beat(self) -> None:
        while True:
            quiet = self._loop.time() - self._sent_at
            if quiet >= self._heartbeat_seconds:
                await self.write(HEARTBEAT)
                quiet = 0.0
            await asyncio.sleep(self._heartbeat_seconds - quiet)
