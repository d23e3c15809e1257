"""Runs stay as the test wrote them: nobody answers them here."""

from __future__ import annotations

from uuid import UUID

import pytest

from chat_api.tools.repository import ToolRepository
from chat_api.tools.service import ToolDecisions
from tests.factories.chat import ChatApi, Json, Person


@pytest.fixture(autouse=True)
async def _nobody_answers(chat: ChatApi) -> None:
    await chat.engine.recovery.stop()
    await chat.engine.executor.drain(0)


@pytest.fixture
async def session(chat: ChatApi, ann: Person) -> Json:
    """Ann's, in which the assistant speaks only when a test says so."""
    return await chat.session(ann, reply_policy="never")


class RecordingStarter:
    """Notes the sessions whose next run it was asked to start."""

    def __init__(self) -> None:
        self.started: list[UUID] = []

    async def start_next_or_leave_it(self, session_id: UUID) -> None:
        self.started.append(session_id)


@pytest.fixture
def starter() -> RecordingStarter:
    return RecordingStarter()


@pytest.fixture
def repository(chat: ChatApi) -> ToolRepository:
    return ToolRepository(chat.app.state.database, chat.app.state.hints)


@pytest.fixture
def decisions(repository: ToolRepository, starter: RecordingStarter) -> ToolDecisions:
    return ToolDecisions(repository, starter)
