"""One WebSocket, from the handshake to its close: who it is for, and frames in and out."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import parse_qs
from uuid import UUID

import orjson
from pydantic import BaseModel, ValidationError
from starlette.types import Message, Receive, Scope, Send

from chat_api.auth.actors import Actor
from chat_api.kit.db import is_store_down
from chat_api.realtime.conversation import Conversation
from chat_api.realtime.errors import MalformedFrame, NotAuthenticatedInTime, OriginNotAllowed, TooManyFrames
from chat_api.realtime.events import Batch, batch_of
from chat_api.realtime.frames import (
    CLIENT_FRAME,
    Authenticate,
    ClientFrame,
    Error,
    InReplyTo,
    Ready,
    Someone,
    Subscribe,
)
from chat_api.realtime.limits import FrameLimit
from chat_api.realtime.origins import is_allowed
from chat_api.realtime.writer import Closed, SocketWriter
from shared.logging import get_logger, request_id_var
from shared.problems import NotAuthenticated, Problem, ServiceUnavailable, ValidationFailed
from shared.web.responses import field_errors
from shared.web.websockets import ABORT, WRITE, extension

if TYPE_CHECKING:
    from chat_api.realtime.gateway import Gateway

log = get_logger("realtime.socket")

_GRACE_SECONDS = 2.0
"""For a close frame to be taken by somebody who reads slowly."""


class CloseCode(IntEnum):
    INTERNAL = 1011
    RESTART = 1012
    NOT_AUTHENTICATED = 4401
    FORBIDDEN = 4403
    TOO_SLOW = 4408
    RATE_LIMIT = 4429


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a socket is for."""

    actor: Actor
    username: str


class Socket:
    """Made by the gateway for one connection. `serve` it; from elsewhere, `put` and `close` it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, gateway: Gateway) -> None:
        self.connection_id = secrets.token_hex(8)
        self.bound_to: str | None = scope.get("path_params", {}).get("session_id")
        """The session in the address of a socket for one session alone."""
        self.is_admitted = False
        self.caller: Caller | None = None
        self._scope = scope
        self._receive = receive
        self._gateway = gateway
        self._abort = extension(scope, ABORT)
        self._limit = FrameLimit(gateway.settings)
        self._writer = SocketWriter(
            send,
            write=extension(scope, WRITE),
            queue_bytes=gateway.settings.ws_queue_bytes,
            too_slow=self.end_slow,
        )
        self._send = send
        self._conversation: Conversation | None = None
        self._is_busy = False
        self._is_ending = False
        self._stop_with: CloseCode | None = None
        self._frame_count = 0

    @property
    def user_id(self) -> UUID:
        assert self.caller is not None
        return self.caller.actor.user_id

    # -- out ----------------------------------------------------------------------------------------------

    def put(self, batch: Batch) -> None:
        self._writer.put(batch)

    def say(self, frame: BaseModel | bytes) -> None:
        self._writer.put(batch_of(frame if isinstance(frame, bytes) else frame.model_dump_json().encode()))

    async def drained(self) -> None:
        await self._writer.drained()

    def put_out(self, session_id: UUID) -> None:
        if self._conversation is not None:
            self._conversation.put_out(session_id)

    def refuse(self, problem: Problem, in_reply_to: InReplyTo | None = None) -> None:
        document = problem.document(request_id_var.get())
        self.say(Error(problem=document, in_reply_to=in_reply_to, retry_after=problem.retry_after))

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close when what waits is sent."""
        self._writer.close(code, reason)

    def close_forbidden(self) -> None:
        self.close(CloseCode.FORBIDDEN, "forbidden")

    def stop(self, code: CloseCode) -> None:
        """Close as soon as the frame that is worked on is answered."""
        if self._is_busy:
            self._stop_with = code
        else:
            self.close(code)

    def end_slow(self) -> None:
        """Close a socket whose reader does not keep up. What waited is dropped: it is recovered after a reconnect.

        One that is being closed for another reason is not waited for any longer either.
        """
        if self._is_ending:
            return
        self._is_ending = True
        log.info("socket.too_slow", connection_id=self.connection_id)
        self._writer.close(CloseCode.TOO_SLOW, "too slow", at_once=True)
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, self.abort)

    def stalled_for(self) -> float:
        """Seconds since the reader took the last byte, while something waits for it."""
        return self._writer.stalled_for()

    def abort(self) -> None:
        """End the connection without a word, where the server can."""
        if self._abort is not None:
            self._abort()

    # -- life ---------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Accept, authenticate, converse. Returns when the socket is closed, and never raises for a client's fault."""
        try:
            await self._receive()  # websocket.connect
            await self._send({"type": "websocket.accept"})
            await self._serve_to_the_end()
        except OSError:
            pass  # gone before it was accepted
        finally:
            self._gateway.forget(self)

    async def _serve_to_the_end(self) -> None:
        writing = asyncio.create_task(self._writer.run(), name=f"socket-{self.connection_id}")
        try:
            await self._serve()
        except Closed:
            pass
        except Exception as error:
            # The connection's boundary: one that fails must not take others with it.
            if is_store_down(error):
                self.refuse(ServiceUnavailable())
            else:
                log.exception("socket.failed", connection_id=self.connection_id)
        finally:
            if self._conversation is not None:
                self._conversation.end()
            self.close(CloseCode.INTERNAL)
            await writing

    async def _serve(self) -> None:
        if not is_allowed(self._scope, self._gateway.settings.cors_origins):
            self._end(OriginNotAllowed(), CloseCode.FORBIDDEN)
        caller = await self._admitted()
        person = Someone(id=caller.actor.user_id, username=caller.username)
        self.say(Ready(connection_id=self.connection_id, user=person))
        self._conversation = Conversation(self, person, caller.actor, self._gateway)
        if self.bound_to is not None:
            await self._bind(self._conversation)
        while True:
            await self._answer(self._conversation, await self._next_text())

    async def _admitted(self) -> Caller:
        try:
            caller = self.caller = await self._authenticate()
            self._gateway.admit(self)
        except NotAuthenticated as problem:
            self._end(problem, CloseCode.NOT_AUTHENTICATED)
        except Problem as problem:
            self._end(problem, CloseCode.RATE_LIMIT if problem.status == 429 else CloseCode.INTERNAL)
        return caller

    async def _authenticate(self) -> Caller:
        """The person behind the ticket in the address, or behind the first frame. Raises `NotAuthenticated`."""
        ticket = self._parameter("ticket")
        if ticket is not None:
            return await self._gateway.caller_of_ticket(ticket)
        seconds = self._gateway.settings.ws_authenticate_seconds
        try:
            async with asyncio.timeout(seconds):
                frame = _parse(await self._next_text())
        except TimeoutError:
            raise NotAuthenticatedInTime(seconds) from None
        except Closed:
            raise
        except Problem:
            raise NotAuthenticatedInTime(seconds) from None
        if not isinstance(frame, Authenticate):
            raise NotAuthenticatedInTime(seconds)
        return await self._gateway.caller_of_credential(frame.token)

    async def _bind(self, conversation: Conversation) -> None:
        """Connecting to a session's own address is subscribing to it."""
        try:
            frame = Subscribe.model_validate(
                {"type": "subscribe", "session_id": self.bound_to, "after_seq": self._parameter("after_seq")}
            )
            self.bound_to = str(frame.session_id)
            await conversation.handle(frame)
        except ValidationError as error:
            self._end(ValidationFailed(errors=field_errors(error)), CloseCode.FORBIDDEN)
        except Problem as problem:
            self._end(problem, CloseCode.FORBIDDEN if problem.status in (403, 404) else CloseCode.INTERNAL)

    def _parameter(self, name: str) -> str | None:
        """Of the address. Nobody needs many: where there are, none is looked at."""
        try:
            query = parse_qs(self._scope["query_string"].decode("latin-1"), max_num_fields=20)
        except ValueError:
            return None
        return query[name][0] if name in query else None

    async def _answer(self, conversation: Conversation, text: str | None) -> None:
        self._frame_count += 1
        request_id_var.set(f"{self.connection_id}-{self._frame_count}")
        if not self._limit.allow(len(text or "")):
            self._refuse_flood()
            return
        self._is_busy = True
        try:
            await conversation.handle(_parse(text))
        except Problem as problem:
            self.refuse(problem, _in_reply_to(text))
        except Closed:
            raise
        except Exception as error:
            # The frame's boundary: the next one may be fine.
            if is_store_down(error):
                self.refuse(ServiceUnavailable(), _in_reply_to(text))
            else:
                log.exception("frame.failed", connection_id=self.connection_id)
                self.refuse(Problem(), _in_reply_to(text))
        finally:
            self._is_busy = False
        if self._stop_with is not None:
            self.close(self._stop_with)

    def _refuse_flood(self) -> None:
        if self._limit.is_hopeless():
            self._end(TooManyFrames(), CloseCode.RATE_LIMIT)
        self.refuse(TooManyFrames())

    async def _next_text(self) -> str | None:
        """The next text frame; None for a binary one. Raises `Closed`."""
        message: Message = await self._receive()
        if message["type"] == "websocket.disconnect" or self._writer.is_closing:
            raise Closed
        text: str | None = message.get("text")
        return text

    def _end(self, problem: Problem, code: CloseCode) -> NoReturn:
        """Say what is wrong, close, and read no more. Raises `Closed`."""
        self.refuse(problem)
        self.close(code, problem.code)
        raise Closed


def _parse(text: str | None) -> ClientFrame:
    """Raises `MalformedFrame` and `ValidationFailed`."""
    if text is None:
        raise MalformedFrame("Send text frames: this one is binary.")
    try:
        return CLIENT_FRAME.validate_json(text)
    except ValidationError as error:
        errors = field_errors(error)
        if any(item.type == "json_invalid" for item in errors):
            raise MalformedFrame from None
        raise ValidationFailed(errors=errors) from None


def _in_reply_to(text: str | None) -> InReplyTo | None:
    """What an answer needs to be understood, of a frame that may be anything."""
    try:
        raw = orjson.loads(text or "")
    except ValueError:
        return None
    if not isinstance(raw, dict):
        return None
    found = InReplyTo()
    for name in ("session_id", "run_id", "execution_id", "type", "client_id"):
        value = raw.get(name)
        try:
            if isinstance(value, str) and len(value) <= 200:
                setattr(found, name, UUID(value) if name.endswith(("session_id", "run_id", "execution_id")) else value)
        except ValueError:
            continue
    return found
