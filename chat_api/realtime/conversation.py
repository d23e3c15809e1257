"""What somebody's frames do: follow sessions, speak, and tell that one writes or has read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, assert_never
from uuid import UUID

import orjson
from pydantic import BaseModel

from chat_api.auth.actors import Actor, Scope
from chat_api.auth.errors import InsufficientScope
from chat_api.realtime import frames
from chat_api.realtime.errors import AlreadyAuthenticated, BoundToSession, NotSubscribed, TooManySubscriptions
from chat_api.realtime.frames import ClientFrame, Someone
from chat_api.realtime.room import Follower
from chat_api.sessions.errors import SessionNotFound

if TYPE_CHECKING:
    from chat_api.realtime.gateway import Gateway, SeenSession

_TYPING_SECONDS = 1.0
"""Who says that they write more often than that is not passed on."""


class Speaker(Follower, Protocol):
    """A socket, as far as a conversation needs it."""

    bound_to: str | None

    def say(self, frame: BaseModel | bytes) -> None: ...

    def close_forbidden(self) -> None: ...


class Conversation:
    """Of one socket, whose caller is known. `end` it when the socket closes."""

    def __init__(self, socket: Speaker, person: Someone, actor: Actor, gateway: Gateway) -> None:
        self._socket = socket
        self._person = person
        self._actor = actor
        self._gateway = gateway
        self._hub = gateway.hub
        self._followed: set[UUID] = set()
        self._writing: set[UUID] = set()
        """Sessions in which the others were told that this person writes."""
        self._wrote_at: dict[UUID, float] = {}

    async def handle(self, frame: ClientFrame) -> None:
        """Raises whatever problem the caller has to hear of."""
        match frame:
            case frames.Authenticate():
                raise AlreadyAuthenticated
            case frames.Subscribe():
                self._need(Scope.CHAT_READ)
                await self._subscribe(frame.session_id, frame.after_seq)
            case frames.Unsubscribe():
                self._leave(frame.session_id)
                self._socket.say(frames.Unsubscribed(session_id=frame.session_id))
            case frames.SendMessage():
                self._need(Scope.CHAT_WRITE)
                sent = await self._gateway.runs.send(frame.session_id, self._actor.user_id, frame, None)
                self._socket.say(frames.ack(frame.client_id, sent.message))
            case frames.Typing():
                self._need(Scope.CHAT_WRITE)
                self._type(frame.session_id, active=frame.active)
            case frames.Read():
                self._need(Scope.CHAT_WRITE)
                await self._gateway.mark_read(frame.session_id, self._actor.user_id, frame.seq)
            case frames.CancelRun():
                self._need(Scope.CHAT_WRITE)
                await self._gateway.runs.cancel(frame.run_id, self._actor.user_id)
            case frames.DecideTool():
                self._need(Scope.CHAT_WRITE)
                await self._gateway.decisions.decide(
                    frame.execution_id,
                    self._actor.user_id,
                    frame.decision,
                    arguments=frame.arguments,
                    reason=frame.reason,
                )
            case frames.Ping():
                self._socket.say(frames.Pong())
            case _:
                assert_never(frame)

    def put_out(self, session_id: UUID) -> None:
        """The person was removed from the session, or it was deleted: they have had all that was for them."""
        self._leave(session_id)
        self._socket.say(frames.Unsubscribed(session_id=session_id, reason=SessionNotFound.code))
        if self._socket.bound_to is not None:
            self._socket.close_forbidden()

    def end(self) -> None:
        for session_id in list(self._followed):
            self._leave(session_id)

    async def _subscribe(self, session_id: UUID, after_seq: int | None) -> None:
        if self._socket.bound_to is not None and self._socket.bound_to != str(session_id):
            raise BoundToSession
        if session_id in self._followed:
            self._leave(session_id)
        if len(self._followed) >= self._gateway.settings.ws_subscriptions:
            raise TooManySubscriptions
        seen = await self._gateway.see(session_id, self._actor.user_id)
        self._followed.add(session_id)
        try:
            await self._follow(session_id, seen, after_seq)
        except BaseException:
            # Half a subscription would be there and hear nothing.
            self._leave(session_id)
            raise

    async def _follow(self, session_id: UUID, seen: SeenSession, after_seq: int | None) -> None:
        missed = None if after_seq is None else seen.last_event_seq - after_seq
        recovered = missed is not None and 0 <= missed <= self._gateway.settings.ws_replay_events
        present = await self._hub.present(session_id, self._person.id, self._person.username)
        self._socket.say(
            frames.subscribed(
                session_id,
                seen.session,
                last_event_seq=seen.last_event_seq,
                recovered=recovered,
                presence=[{"id": str(user_id), "username": username} for user_id, username in present.items()],
            )
        )
        start = after_seq if recovered and after_seq is not None else seen.last_event_seq
        if not await self._hub.join(session_id, self._socket, start, seen.last_event_seq):
            self.put_out(session_id)
            return
        for frame in self._hub.presence_since(session_id, present):
            self._socket.say(frame)

    def _leave(self, session_id: UUID) -> None:
        if session_id in self._followed:
            self._hub.leave(session_id, self._socket)
            self._forget(session_id)

    def _forget(self, session_id: UUID) -> None:
        if session_id not in self._followed:
            return
        self._followed.discard(session_id)
        self._wrote_at.pop(session_id, None)
        self._stop_writing(session_id)
        self._hub.absent(session_id, self._person.id)

    def _type(self, session_id: UUID, *, active: bool) -> None:
        if session_id not in self._followed:
            raise NotSubscribed
        now = time.monotonic()
        if not active:
            self._stop_writing(session_id)
        elif now - self._wrote_at.get(session_id, -_TYPING_SECONDS) >= _TYPING_SECONDS:
            self._wrote_at[session_id] = now
            self._writing.add(session_id)
            self._tell_typing(session_id, active=True)

    def _stop_writing(self, session_id: UUID) -> None:
        if session_id in self._writing:
            self._writing.discard(session_id)
            self._tell_typing(session_id, active=False)

    def _tell_typing(self, session_id: UUID, *, active: bool) -> None:
        data = {"user_id": str(self._person.id), "username": self._person.username, "active": active}
        self._hub.say(session_id, self._socket, "typing", orjson.dumps(data))

    def _need(self, scope: Scope) -> None:
        if scope not in self._actor.scopes:
            raise InsufficientScope(f"This needs the scope `{scope}`.")
