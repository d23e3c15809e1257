"""Collaborators of the routes, built per request. All are coroutines: FastAPI runs plain functions in a thread."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from chat_api.auth.api_keys import ApiKeyService
from chat_api.auth.authenticator import Authenticator
from chat_api.auth.permissions import authenticator_of
from chat_api.auth.sealing import SecretSeal
from chat_api.auth.tickets import TicketService
from chat_api.config import ApiSettings
from chat_api.kit.clock import Clock
from chat_api.kit.dependencies import Db, Statements


async def get_authenticator(request: Request) -> Authenticator:
    return authenticator_of(request)


TheAuthenticator = Annotated[Authenticator, Depends(get_authenticator)]


async def get_clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock


async def get_settings(request: Request) -> ApiSettings:
    settings: ApiSettings = request.app.state.settings
    return settings


TheClock = Annotated[Clock, Depends(get_clock)]
TheSettings = Annotated[ApiSettings, Depends(get_settings)]


async def get_api_keys(db: Db, clock: TheClock) -> ApiKeyService:
    return ApiKeyService(db, clock)


async def get_seal(settings: TheSettings) -> SecretSeal:
    return SecretSeal(settings.secret_keys)


async def get_tickets(database: Statements, clock: TheClock, settings: TheSettings) -> TicketService:
    return TicketService(database, clock, lifetime=timedelta(seconds=settings.ws_ticket_seconds))


ApiKeys = Annotated[ApiKeyService, Depends(get_api_keys)]
TheSeal = Annotated[SecretSeal, Depends(get_seal)]
Tickets = Annotated[TicketService, Depends(get_tickets)]
