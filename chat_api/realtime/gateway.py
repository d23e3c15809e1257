"""The sockets of one process, and what they need: made once, by the application."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from starlette.types import Receive, Scope, Send

from chat_api.auth.actors import Actor
from chat_api.auth.authenticator import Authenticator
from chat_api.config import ApiSettings
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database, is_store_down
from chat_api.kit.redis import RedisClients
from chat_api.realtime import statements as sql
from chat_api.realtime.errors import TooManySockets
from chat_api.realtime.events import DatabaseEvents
from chat_api.realtime.hub import Hub
from chat_api.realtime.socket import Caller, CloseCode, Socket
from chat_api.runs.engine import RunEngine
from chat_api.runs.service import RunService
from chat_api.sessions.errors import SessionNotFound
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.receipts import ReadReceipts
from chat_api.sessions.service import SessionService
from chat_api.tools.repository import ToolRepository
from chat_api.tools.service import ToolDecisions
from shared.logging import get_logger
from shared.problems import NotAuthenticated

log = get_logger("realtime")

_WATCH_SECONDS = 0.5
_RECHECK_SECONDS = 60.0
_CLOSING_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class SeenSession:
    """A session as one person sees it, as JSON, and how far its events go."""

    session: bytes
    last_event_seq: int


class Gateway:
    """An ASGI application for sockets. `start` it in the lifespan, `stop` it at the signal, `close` it at the end."""

    def __init__(
        self,
        settings: ApiSettings,
        database: Database,
        redis: RedisClients | None,
        hints: SessionHints,
        authenticator: Authenticator,
        engine: RunEngine,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.hub = Hub(settings, DatabaseEvents(database), engine.streams, hints, redis)
        self.runs = RunService(engine.repository, engine.executor, engine.streams, engine.sends, engine.quotas)
        self.decisions = ToolDecisions(ToolRepository(database, hints), engine.executor)
        self._database = database
        self._hints = hints
        self._receipts = ReadReceipts(database, hints)
        self._authenticator = authenticator
        self._clock = clock
        self._sockets: set[Socket] = set()
        self._of_user: Counter[UUID] = Counter()
        self._is_stopping = False
        self._all_closed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.hub.start()
        self._tasks = [
            asyncio.create_task(self._watch_for_ever(), name="socket-watch"),
            asyncio.create_task(self._recheck_for_ever(), name="socket-recheck"),
        ]

    def stop(self) -> None:
        """Send every socket to another process. Called from the signal handler; idempotent."""
        self._is_stopping = True
        if not self._sockets:
            self._all_closed.set()
        for socket in list(self._sockets):
            socket.stop(CloseCode.RESTART)

    async def close(self) -> None:
        self.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._all_closed.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.hub.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = Socket(scope, receive, send, self)
        self._sockets.add(socket)
        if self._is_stopping:
            socket.stop(CloseCode.RESTART)
        await socket.serve()

    @property
    def socket_count(self) -> int:
        return len(self._sockets)

    # -- for sockets --------------------------------------------------------------------------------------

    async def caller_of_ticket(self, ticket: str) -> Caller:
        """Raises `NotAuthenticated`."""
        return await self._caller(await self._authenticator.authenticate_ticket(ticket))

    async def caller_of_credential(self, credential: str) -> Caller:
        """Raises `NotAuthenticated`."""
        return await self._caller(await self._authenticator.authenticate(credential))

    async def _caller(self, actor: Actor) -> Caller:
        row = await self._database.fetch_row(sql.PERSON, actor.user_id)
        if row is None:
            raise NotAuthenticated("The account is closed.")
        return Caller(actor, row["username"])

    def admit(self, socket: Socket) -> None:
        """Count a socket as its caller's. Raises `TooManySockets`."""
        if self._of_user[socket.user_id] >= self.settings.ws_sockets_per_user:
            raise TooManySockets
        self._of_user[socket.user_id] += 1
        socket.is_admitted = True

    def forget(self, socket: Socket) -> None:
        self._sockets.discard(socket)
        if self._is_stopping and not self._sockets:
            self._all_closed.set()
        if socket.is_admitted:
            self._of_user[socket.user_id] -= 1
            if not self._of_user[socket.user_id]:
                del self._of_user[socket.user_id]

    async def see(self, session_id: UUID, user_id: UUID) -> SeenSession:
        """Raises `SessionNotFound`."""
        async with self._database.unit() as db:
            found = await SessionService(db, self._clock, self._hints).seen_by(session_id, user_id)
        if found is None:
            raise SessionNotFound
        session, last_event_seq = found
        return SeenSession(session.model_dump_json().encode(), last_event_seq)

    async def mark_read(self, session_id: UUID, user_id: UUID, seq: int) -> None:
        """Raises `SessionNotFound`."""
        await self._receipts.mark(session_id, user_id, seq)

    # -- watching -----------------------------------------------------------------------------------------

    async def _watch_for_ever(self) -> None:
        """Close sockets whose reader takes nothing."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for socket in list(self._sockets):
                if socket.stalled_for() > self.settings.ws_stall_seconds:
                    socket.end_slow()

    async def _recheck_for_ever(self) -> None:
        """Apart from the watching, which must not wait for a database."""
        while True:
            await asyncio.sleep(_RECHECK_SECONDS)
            await self.recheck()

    async def recheck(self) -> None:
        """Close sockets whose credential is no longer good."""
        callers = {socket: socket.caller.actor for socket in self._sockets if socket.caller is not None}
        if not callers:
            return
        try:
            valid = await self._authenticator.still_valid(set(callers.values()))
        except Exception as error:
            if not is_store_down(error):
                log.exception("sockets.recheck_failed")
            return
        for socket, actor in callers.items():
            if actor not in valid:
                socket.close(CloseCode.NOT_AUTHENTICATED, "not-authenticated")
