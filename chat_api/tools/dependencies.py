"""Collaborators of the tool routes, built per request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from chat_api.auth.dependencies import TheClock
from chat_api.clients.tools import AgentTools
from chat_api.kit.dependencies import Statements
from chat_api.sessions.dependencies import TheHints
from chat_api.tools.repository import ToolRepository
from chat_api.tools.service import RunStarter, ToolDecisions, ToolLog
from chat_api.tools.session_tools import SessionToolbox


async def get_tool_repository(database: Statements, hints: TheHints) -> ToolRepository:
    return ToolRepository(database, hints)


TheRepository = Annotated[ToolRepository, Depends(get_tool_repository)]


async def get_run_starter(request: Request) -> RunStarter:
    starter: RunStarter = request.app.state.runs.executor
    return starter


async def get_agent_tools(request: Request) -> AgentTools:
    tools: AgentTools = request.app.state.agent_tools
    return tools


async def get_tool_log(repository: TheRepository) -> ToolLog:
    return ToolLog(repository)


async def get_decisions(
    repository: TheRepository, starter: Annotated[RunStarter, Depends(get_run_starter)]
) -> ToolDecisions:
    return ToolDecisions(repository, starter)


async def get_session_toolbox(
    database: Statements,
    hints: TheHints,
    clock: TheClock,
    repository: TheRepository,
    agent: Annotated[AgentTools, Depends(get_agent_tools)],
) -> SessionToolbox:
    return SessionToolbox(database, hints, clock, repository, agent)


Log = Annotated[ToolLog, Depends(get_tool_log)]
Decisions = Annotated[ToolDecisions, Depends(get_decisions)]
Toolbox = Annotated[SessionToolbox, Depends(get_session_toolbox)]
