"""Tickets for WebSockets: browsers cannot send a header with one, and a token in an address ends up in logs."""

from __future__ import annotations

from datetime import timedelta

from chat_api.auth import repository
from chat_api.auth.actors import Actor, Scope
from chat_api.auth.authenticator import TicketSecret
from chat_api.auth.schemas import Ticket
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from shared.logging import get_logger
from shared.problems import NotAuthenticated

log = get_logger("auth")


class TicketService:
    def __init__(self, database: Database, clock: Clock, *, lifetime: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._lifetime = lifetime

    async def issue(self, actor: Actor) -> Ticket:
        """A ticket with the scopes of the caller. Raises `NotAuthenticated` for an account that was closed since."""
        secret = TicketSecret.new()
        holder = repository.TicketHolder(
            user_id=actor.user_id,
            api_key_id=actor.api_key_id,
            scopes=[scope.value for scope in Scope if scope in actor.scopes],
        )
        expires_at = self._clock.now() + self._lifetime
        if not await repository.add_ticket(self._database, secret.secret_hash, holder, expires_at):
            raise NotAuthenticated
        log.info("ws_ticket.issued", user_id=actor.user_id)
        return Ticket(ticket=secret.text, expires_in=max(1, int(self._lifetime.total_seconds())))


async def forget_expired(database: Database, clock: Clock) -> int:
    """Delete the tickets that nobody can use any more; returns how many."""
    return await repository.forget_tickets(database, clock.now())
