"""The tools that a caller is offered. They read what the caller may read, and change nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from chat_api.bots.service import BotService
from chat_api.documents.schemas import BotSearch
from chat_api.documents.search import DocumentPassages
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.mcp_server.schemas import (
    MOST_BOTS,
    USUAL_PASSAGES,
    BotLine,
    BotsFound,
    KnowledgeFound,
    KnowledgePassage,
    ListBots,
    MessagesFound,
    SearchKnowledge,
    SearchMessages,
)
from chat_api.search.service import MessageSearch
from shared.logging import get_logger
from shared.problems import Problem
from shared.web.responses import field_errors

log = get_logger("mcp")

Arguments = TypeVar("Arguments", bound=BaseModel)


class UnknownTool(Exception):
    """No tool has this name."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The tool could not do it, in words for whoever reads them: a model, mostly."""

    reason: str


@dataclass(frozen=True, slots=True)
class OfferedTool(Generic[Arguments]):
    name: str
    title: str
    description: str
    arguments: type[Arguments]
    answer: type[BaseModel]
    run: Callable[[Arguments], Awaitable[BaseModel]]


class CallerTools:
    """The tools of one caller, for one request."""

    def __init__(
        self, user_id: UUID, database: Database, messages: MessageSearch, passages: DocumentPassages, clock: Clock
    ) -> None:
        self._user_id = user_id
        self._database = database
        self._messages = messages
        self._passages = passages
        self._clock = clock

    def offered(self) -> list[OfferedTool[Any]]:
        return [
            OfferedTool(
                name="search_knowledge",
                title="Search knowledge",
                description="Find passages in the documents of the bots that you may use, by meaning and by words.",
                arguments=SearchKnowledge,
                answer=KnowledgeFound,
                run=self._search_knowledge,
            ),
            OfferedTool(
                name="search_messages",
                title="Search messages",
                description="Find messages by their words in the conversations that you take part in.",
                arguments=SearchMessages,
                answer=MessagesFound,
                run=self._search_messages,
            ),
            OfferedTool(
                name="list_bots",
                title="List bots",
                description="List the bots whose documents you may search, with their ids.",
                arguments=ListBots,
                answer=BotsFound,
                run=self._list_bots,
            ),
        ]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> BaseModel | Failed:
        """Run a tool. Raises `UnknownTool`, and what a store that is away raises."""
        tool = next((tool for tool in self.offered() if tool.name == name), None)
        if tool is None:
            raise UnknownTool
        answer = await self._run(tool, arguments)
        log.info("mcp.tool_called", tool=name, failed=isinstance(answer, Failed))
        return answer

    async def _run(self, tool: OfferedTool[Any], arguments: Mapping[str, Any]) -> BaseModel | Failed:
        try:
            wanted = tool.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, one.loc)) or 'arguments'}: {one.msg}" for one in field_errors(error)]
            return Failed("The arguments do not fit. " + "; ".join(wrong))
        try:
            return await tool.run(wanted)
        except Problem as problem:
            shown = problem.document()
            return Failed(f"{shown.title}. {shown.detail}")

    async def _search_knowledge(self, wanted: SearchKnowledge) -> KnowledgeFound:
        if wanted.bot_id is None:
            top_k = wanted.top_k or USUAL_PASSAGES
            found = await self._passages.search_known(self._user_id, wanted.query, top_k=top_k)
        else:
            search = BotSearch(query=wanted.query, top_k=wanted.top_k)
            found = await self._passages.search(wanted.bot_id, self._user_id, search)
        return KnowledgeFound(passages=[KnowledgePassage.of(passage) for passage in found.passages])

    async def _search_messages(self, wanted: SearchMessages) -> MessagesFound:
        return MessagesFound(messages=await self._messages.find(self._user_id, wanted.query, limit=wanted.limit))

    async def _list_bots(self, _: ListBots) -> BotsFound:
        async with self._database.unit() as db:
            bots = await BotService(db, self._clock).latest(self._user_id, MOST_BOTS)
        return BotsFound(bots=[BotLine(id=bot.id, name=bot.name, description=bot.description) for bot in bots])
