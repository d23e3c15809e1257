"""The collaborators of the protocol's route."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.auth.permissions import ChatReader
from chat_api.documents.dependencies import Passages
from chat_api.kit.dependencies import Statements
from chat_api.mcp_server.endpoint import McpEndpoint
from chat_api.mcp_server.errors import OriginNotAllowed
from chat_api.mcp_server.origins import is_allowed
from chat_api.mcp_server.tools import CallerTools
from chat_api.search.dependencies import TheMessageSearch

_ENDPOINT = McpEndpoint()


async def get_endpoint() -> McpEndpoint:
    return _ENDPOINT


async def check_origin(request: Request, settings: TheSettings) -> None:
    if not is_allowed(request.headers, settings.cors_origins):
        raise OriginNotAllowed


async def get_caller_tools(
    actor: ChatReader, database: Statements, messages: TheMessageSearch, passages: Passages, clock: TheClock
) -> CallerTools:
    return CallerTools(actor.user_id, database, messages, passages, clock)


TheEndpoint = Annotated[McpEndpoint, Depends(get_endpoint)]
TheCallersTools = Annotated[CallerTools, Depends(get_caller_tools)]
CheckedOrigin = Depends(check_origin)
"""For `dependencies=[CheckedOrigin]`."""
