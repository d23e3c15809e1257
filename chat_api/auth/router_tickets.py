"""The route of WebSocket tickets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from chat_api.auth.dependencies import Tickets
from chat_api.auth.errors import InsufficientScope
from chat_api.auth.permissions import ChatReader
from chat_api.auth.schemas import Ticket
from shared.problems import NotAuthenticated, ServiceUnavailable
from shared.web.responses import problems

router = APIRouter(prefix="/auth", tags=["Accounts"])

_NO_STORE = {"Cache-Control": "no-store"}
_NO_STORE_DOC: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"Cache-Control": {"description": "`no-store`", "schema": {"type": "string"}}}}
}


@router.post(
    "/ws-ticket",
    response_model=Ticket,
    summary="Get a ticket for a WebSocket",
    responses=_NO_STORE_DOC | problems(NotAuthenticated, InsufficientScope, ServiceUnavailable),
)
async def create_ws_ticket(actor: ChatReader, tickets: Tickets, response: Response) -> Ticket:
    """Open `/api/v1/ws?ticket=…` with it before it expires. It is used up by that, whatever comes of it.

    The socket may do what the token or the API key of this call may. `Idempotency-Key` is not taken: a ticket is a
    secret that lives for seconds, so it is stored as a hash only and cannot be given twice. Ask for another one.
    """
    response.headers.update(_NO_STORE)
    return await tickets.issue(actor)
