"""What the assistant may call, what it called, and deciding on what waits for a person."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Response

from chat_api.auth.answers import answers
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.clients.connection import AgentBrokeOff, AgentUnavailable
from chat_api.kit.dependencies import Cursor, Limit
from chat_api.kit.pagination import InvalidCursor
from chat_api.sessions.dependencies import SessionId
from chat_api.sessions.errors import SessionNotFound
from chat_api.tools.dependencies import Decisions, Log, Toolbox
from chat_api.tools.errors import (
    AlreadyDecided,
    ApprovalExpired,
    DecisionNotYours,
    ToolArgumentsInvalid,
    ToolExecutionNotFound,
)
from chat_api.tools.models import ToolStatus
from chat_api.tools.repository import ExecutionFilter
from chat_api.tools.schemas import (
    SessionTools,
    ToolApproval,
    ToolExecutionPage,
    ToolExecutionRead,
    ToolRejection,
)
from shared.contracts.tools import ToolVerdict
from shared.problems import FieldError

router = APIRouter(tags=["Tools"])

ExecutionId = Annotated[UUID, Path(description="Id of the tool execution.")]


@router.get(
    "/sessions/{session_id}/tools",
    summary="List the tools of a session",
    responses=answers(SessionNotFound, AgentBrokeOff, AgentUnavailable),
)
async def list_session_tools(session_id: SessionId, actor: ChatReader, toolbox: Toolbox) -> SessionTools:
    """What the assistant may call in the session now: its `settings.tools`, else those of its bot.

    Where the bot leaves it to the model when to look into its documents, `search_knowledge` is among them.
    """
    return await toolbox.of(session_id, actor.user_id)


@router.get(
    "/sessions/{session_id}/tool-executions",
    response_model=ToolExecutionPage,
    summary="List the tool executions of a session",
    responses=answers(SessionNotFound, InvalidCursor),
)
async def list_tool_executions(
    session_id: SessionId,
    actor: ChatReader,
    tools: Log,
    status: Annotated[ToolStatus | None, Query(description="Only these.")] = None,
    run_id: Annotated[UUID | None, Query(description="Only those of this run.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Every call that the assistant made, the earliest first: what for, what became of it, who decided and why."""
    wanted = ExecutionFilter(status=status, run_id=run_id)
    page = await tools.page(session_id, actor.user_id, wanted, limit=limit, cursor=cursor)
    return Response(page, media_type="application/json")


@router.get(
    "/tool-executions/{execution_id}",
    response_model=ToolExecutionRead,
    summary="Read a tool execution",
    responses=answers(ToolExecutionNotFound),
)
async def get_tool_execution(execution_id: ExecutionId, actor: ChatReader, tools: Log) -> Response:
    """One call of a tool, as it is now."""
    return Response(await tools.read(execution_id, actor.user_id), media_type="application/json")


_DECISION_ANSWERS: tuple[Any, ...] = (ToolExecutionNotFound, DecisionNotYours, AlreadyDecided, ApprovalExpired)


@router.post(
    "/tool-executions/{execution_id}/approve",
    response_model=ToolExecutionRead,
    summary="Approve a tool execution",
    responses=answers(*_DECISION_ANSWERS, ToolArgumentsInvalid),
)
async def approve_tool_execution(
    execution_id: ExecutionId,
    actor: ChatWriter,
    decisions: Decisions,
    body: Annotated[ToolApproval, Body(default_factory=ToolApproval)],
) -> Response:
    """Let a call run that waits for it, with the model's arguments or with yours. The body may be left out.

    The session's owner decides, and whoever sent the message that is answered; also in an archived session. The first
    decision counts, and the same one again is 409. When nothing of the run waits any more, it goes on.
    """
    try:
        execution = await decisions.decide(execution_id, actor.user_id, ToolVerdict.APPROVE, arguments=body.arguments)
    except ToolArgumentsInvalid as problem:
        errors = [
            FieldError(loc=["body", *error.loc], msg=error.msg, type=error.type) for error in problem.errors or ()
        ]
        raise ToolArgumentsInvalid(errors=errors) from None
    return Response(execution, media_type="application/json")


@router.post(
    "/tool-executions/{execution_id}/reject",
    response_model=ToolExecutionRead,
    summary="Reject a tool execution",
    responses=answers(*_DECISION_ANSWERS),
)
async def reject_tool_execution(
    execution_id: ExecutionId,
    actor: ChatWriter,
    decisions: Decisions,
    body: Annotated[ToolRejection, Body(default_factory=ToolRejection)],
) -> Response:
    """Refuse a call that waits for approval. It is never run; the model is told, with the reason.

    Who may, and what a second decision gets, is as for approving. The body may be left out.
    """
    execution = await decisions.decide(execution_id, actor.user_id, ToolVerdict.REJECT, reason=body.reason)
    return Response(execution, media_type="application/json")
