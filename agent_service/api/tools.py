"""`/v1/tools`: what a model may call, and one call of it without a model."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.state import State
from agent_service.application.tool_arguments import check_arguments
from agent_service.domain.tool_problems import ToolApprovalRequired, ToolArgumentsInvalid, ToolNotFound
from agent_service.ports.tools import ToolContext
from shared.contracts.chat import ChatUser
from shared.contracts.knowledge import Passage, RetrievalOptions
from shared.contracts.tools import TOOL_EXAMPLE, ToolList, ToolOutcome, ToolRisk
from shared.logging import request_id_var
from shared.problems import MalformedRequest, PayloadTooLarge, ProblemDocument, ValidationFailed
from shared.schema import WriteSchema
from shared.web.event_stream import CLIENT_CLOSED, while_connected
from shared.web.responses import problems

router = APIRouter(prefix="/v1", tags=["tools"])

_EXAMPLE_LIST = {
    "items": [TOOL_EXAMPLE],
    "sources": [
        {"name": "mcp:wiki", "state": "down", "tools": 0, "restarts": 3, "error": "The server cannot be reached."}
    ],
}
_EXAMPLE_ANSWER: dict[str, Any] = {
    "outcome": "succeeded",
    "content": "42",
    "passages": [],
    "problem": None,
    "attempts": 1,
    "duration_ms": 2,
}

ToolPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="As `GET /v1/tools` names it.")]


class ToolRunRequest(WriteSchema):
    """One call of a tool. `approved` is the caller's word that a person agreed to exactly this call."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"arguments": {"expression": "6 * 7"}}})

    arguments: dict[str, Any] = Field(description="They have to fit the tool's `parameters`.")
    approved: bool = Field(default=False, strict=True, description="A risky tool runs only with `true`.")
    collections: list[UUID] = Field(
        default_factory=list, max_length=20, description="What `search_knowledge` looks through."
    )
    retrieval: RetrievalOptions = Field(default_factory=RetrievalOptions)
    user: ChatUser | None = None


class ToolRunAnswer(BaseModel):
    """How the call ended. `content` is what a model would be told, also where it failed; then `problem` says why."""

    outcome: ToolOutcome
    content: str
    passages: list[Passage]
    problem: ProblemDocument | None
    attempts: int
    duration_ms: int


def _example(value: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": value}}}}


@router.get(
    "/tools",
    operation_id="list_tools",
    summary="List the tools",
    responses={**_example(_EXAMPLE_LIST), **problems(*AUTH_PROBLEMS)},
)
async def list_tools(state: State, caller: AuthenticatedCaller) -> ToolList:
    """What a turn may name now, and the MCP servers that tools come from, with their health.

    A server that is down is tried again by itself; until then its tools are not there.
    """
    return state.catalog.listing()


@router.post(
    "/tools/{name}",
    operation_id="run_tool",
    summary="Run a tool",
    response_model=ToolRunAnswer,
    responses={
        **_example(_EXAMPLE_ANSWER),
        **problems(
            MalformedRequest,
            *AUTH_PROBLEMS,
            ToolApprovalRequired,
            ToolNotFound,
            PayloadTooLarge,
            ValidationFailed,
            ToolArgumentsInvalid,
        ),
    },
)
async def run_tool(
    request: Request, name: ToolPath, wanted: ToolRunRequest, state: State, caller: AuthenticatedCaller
) -> Response:
    """One call without a model, with the same limits as in a turn: time, attempts, and the size of what it answers.

    The answer is 200 also where the tool failed or took too long: see `outcome`. Closing the connection stops the
    tool. With an API key it runs on behalf of the key's owner, whoever `user` names.
    """
    tool = state.catalog.find(name)
    if tool is None:
        raise ToolNotFound
    if tool.spec.risk is ToolRisk.RISKY and not wanted.approved:
        raise ToolApprovalRequired
    check_arguments(wanted.arguments, tool.spec)
    context = _context(wanted, caller.user_id)
    try:
        run = await while_connected(state.tool_runner.run(tool, wanted.arguments, context), request.receive)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED)
    answer = ToolRunAnswer(
        outcome=run.outcome,
        content=run.content,
        passages=list(run.passages),
        problem=None if run.problem is None else run.problem.document(request_id_var.get()),
        attempts=run.attempts,
        duration_ms=run.duration_ms,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _context(wanted: ToolRunRequest, owner_id: UUID | None) -> ToolContext:
    user = wanted.user
    return ToolContext(
        run_id=uuid4(),
        owner_id=owner_id,
        user_id=owner_id or (None if user is None else user.id),
        session_id=None if user is None else user.session_id,
        collections=tuple(wanted.collections),
        retrieval=wanted.retrieval,
    )
