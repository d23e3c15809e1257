"""`/mcp`: the Model Context Protocol over streamable HTTP, without sessions and without streams."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from chat_api.auth.answers import answers
from chat_api.auth.permissions import ChatReader
from chat_api.mcp_server.dependencies import CheckedOrigin, TheCallersTools, TheEndpoint
from chat_api.mcp_server.errors import OriginNotAllowed, ProtocolVersionUnsupported
from chat_api.mcp_server.schemas import McpAnswer, McpMessage

router = APIRouter(tags=["MCP"])

ProtocolVersion = Annotated[
    str | None,
    Header(alias="MCP-Protocol-Version", description="What `initialize` agreed on.", max_length=100),
]


@router.post(
    "/mcp",
    response_model=McpAnswer,
    dependencies=[CheckedOrigin],
    summary="Speak the Model Context Protocol",
    responses={
        202: {"description": "A notification was taken. It has no answer."},
        **answers(OriginNotAllowed, ProtocolVersionUnsupported),
    },
)
async def send_mcp_message(
    request: Request,
    _: ChatReader,
    body: McpMessage,
    endpoint: TheEndpoint,
    tools: TheCallersTools,
    version: ProtocolVersion = None,
) -> Response:
    """Streamable HTTP without sessions, for any client of the protocol: one message in, one JSON answer out.

    Tools: `search_knowledge`, `search_messages` and `list_bots` read what the caller may read. What a tool cannot do it
    says in its result (`isError`). There is no stream to open, so GET and DELETE are 405.
    """
    answer = await endpoint.protocol()
    answered = await answer(body, tools, spoken_version=version, server_version=request.app.version)
    if answered is None:
        return Response(status_code=202)
    return Response(answered.model_dump_json(exclude_none=True), media_type="application/json")
