"""`/search`: what was said, found again."""

from __future__ import annotations

from fastapi import APIRouter

from chat_api.auth.permissions import AgentCaller
from chat_api.search.dependencies import TheMessageSearch
from chat_api.sessions.errors import SessionNotFound
from shared.contracts.tools import MessageSearchAnswer, MessageSearchRequest
from shared.problems import MalformedRequest, NotAuthenticated, PayloadTooLarge, ServiceUnavailable, ValidationFailed
from shared.web.responses import problems

router = APIRouter(prefix="/search", tags=["Search"])


@router.post(
    "/messages",
    summary="Find messages for a tool",
    responses=problems(
        MalformedRequest, NotAuthenticated, SessionNotFound, PayloadTooLarge, ValidationFailed, ServiceUnavailable
    ),
)
async def search_messages(_: AgentCaller, body: MessageSearchRequest, search: TheMessageSearch) -> MessageSearchAnswer:
    """For the agent service, with its service token: what `user_id` may read, the best first.

    With `session_id`, the session in which the tool was called, only sessions are searched in which everybody of that
    session takes part: what a tool says there is read by all of them. The newest 5,000 messages are looked at.
    """
    found = await search.find(body.user_id, body.query, limit=body.limit, session_id=body.session_id)
    return MessageSearchAnswer(items=found)
