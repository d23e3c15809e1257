"""A completion on its way from the agent, while the database goes away."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from chat_api.clients.models import HttpAgentModels
from chat_api.clients.tools import HttpAgentTools
from chat_api.completions.places import CompletionPlaces
from chat_api.completions.service import CompletionService
from chat_api.config import ApiSettings
from chat_api.kit.clock import SystemClock
from chat_api.kit.db import Database
from chat_api.plans.people import PlansOfPeople
from chat_api.plans.quotas import DayQuotas
from shared.contracts.chat import ChatEvent, ChatRequest, CitationsEvent, DeltaEvent
from shared.contracts.knowledge import CitationData
from shared.problems import ServiceUnavailable

DOCUMENT = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
CITED = CitationData(
    index=1, document_id=DOCUMENT, document_name="a", chunk_id=DOCUMENT, page=None, score=0.9, snippet="s"
)


class _Away:
    """In the place of the database."""

    async def fetch_rows(self, *_: Any) -> list[Any]:
        raise ConnectionRefusedError

    async def fetch_row(self, *_: Any) -> Any:
        raise ConnectionRefusedError


class _Citing:
    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        yield DeltaEvent(text="At ten [1].")
        yield CitationsEvent(citations=[CITED])


async def test_sources_that_cannot_be_looked_up_end_it_as_what_they_are() -> None:
    settings = ApiSettings(_env_file=None)
    models, tools = HttpAgentModels(settings), HttpAgentTools(settings)
    database = cast("Database", _Away())
    quotas = DayQuotas(database, PlansOfPeople(database, settings))
    service = CompletionService(database, SystemClock(), _Citing(), tools, models, CompletionPlaces(settings), quotas)
    turn = ChatRequest.model_validate({"run_id": uuid4(), "messages": [{"role": "user", "content": "When?"}]})
    events = service.events(uuid4(), turn)
    assert await anext(events) == DeltaEvent(text="At ten [1].")
    with pytest.raises(ServiceUnavailable):
        await anext(events)
    await models.close()
    await tools.close()
