"""`/search`: what was said, found again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from chat_api.auth.answers import answers
from chat_api.auth.permissions import AgentCaller, ChatReader
from chat_api.clients.connection import AgentBrokeOff, AgentUnavailable
from chat_api.kit.dependencies import Cursor, Limit
from chat_api.kit.pagination import InvalidCursor, Page
from chat_api.messages.models import MessageRole
from chat_api.search.dependencies import TheMessageSearch
from chat_api.search.errors import SemanticSearchOff
from chat_api.search.repository import Within
from chat_api.search.schemas import MAX_QUERY_CHARACTERS, FoundItem, SearchMode
from chat_api.sessions.errors import SessionNotFound
from shared.contracts.tools import MessageSearchAnswer, MessageSearchRequest
from shared.problems import MalformedRequest, NotAuthenticated, PayloadTooLarge, ServiceUnavailable, ValidationFailed
from shared.schema import GivenMoment
from shared.web.responses import problems

router = APIRouter(prefix="/search", tags=["Search"])


@router.get(
    "",
    summary="Search my messages",
    responses=answers(InvalidCursor, SemanticSearchOff, AgentUnavailable, AgentBrokeOff),
)
async def search(
    actor: ChatReader,
    search: TheMessageSearch,
    q: Annotated[
        str,
        Query(
            min_length=1,
            max_length=MAX_QUERY_CHARACTERS,
            description='Words, all of which are wanted; `"a phrase"`; `begin*`; `-without`.',
            openapi_examples={"words": {"value": "harbour"}},
        ),
    ],
    mode: Annotated[SearchMode, Query(description="By words, by meaning, or by both.")] = SearchMode.TEXT,
    session_id: Annotated[UUID | None, Query(description="Only in this session.")] = None,
    bot_id: Annotated[UUID | None, Query(description="Only in sessions on this bot.")] = None,
    role: Annotated[MessageRole | None, Query(description="Only messages of this role, and no titles.")] = None,
    after: Annotated[GivenMoment | None, Query(description="Only what was written then or later.")] = None,
    before: Annotated[GivenMoment | None, Query(description="Only what was written earlier.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[FoundItem]:
    """Messages and titles of the sessions that the caller takes part in.

    `text`: all the words, in all their forms in the language of each message, the newest first. `semantic`: what is
    nearest in meaning among the newest 10,000, with its score. `hybrid`: both together, any of the words, the best
    first; where meaning cannot be asked for now, by words alone. The last two give one page.

    Where a word matched is said in the parts of the snippet.
    """
    within = Within(
        actor.user_id,
        session_id=session_id,
        bot_id=bot_id,
        role=None if role is None else role.value,
        after=after,
        before=before,
    )
    return await search.page(mode, within, q, limit=limit, cursor=cursor)


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
    session takes part: what a tool says there is read by all of them.
    """
    found = await search.find(body.user_id, body.query, limit=body.limit, session_id=body.session_id)
    return MessageSearchAnswer(items=found)
