"""Turns without a session: by a model, or by a bot that knows its documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from chat_api.auth.actors import Actor, Scope
from chat_api.bots.errors import BotNotFound
from chat_api.bots.schemas import BotConfiguration, BotRead
from chat_api.bots.service import BotService, read
from chat_api.bots.tools import effective_tools
from chat_api.clients.agent import Agent, AgentBrokeOff, AgentRefused
from chat_api.clients.models import AgentModels
from chat_api.clients.tools import AgentTools
from chat_api.completions.places import CompletionPlaces
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database, is_store_down
from chat_api.plans.quotas import DayQuotas
from chat_api.runs.errors import DocumentsBeingDeleted
from chat_api.runs.estimates import TurnUsage, embedding_tokens, told_tokens
from chat_api.runs.session_bot import KNOWLEDGE, Knowledge, SessionBot
from chat_api.tools.session_tools import is_meant
from shared.contracts.chat import ChatEvent, ChatRequest, ChatUser, CitationsEvent, ModelChoice
from shared.contracts.knowledge import MAX_EXCLUDED, RetrievalOptions
from shared.contracts.tools import SEARCH_KNOWLEDGE, ApprovalMode, ToolRisk
from shared.logging import get_logger
from shared.openai.conversion import chat_request
from shared.openai.embeddings import EmbeddingRequest
from shared.openai.errors import UnknownModel
from shared.openai.models import OpenAIModel, OpenAIModelList, chosen_model
from shared.openai.requests import CompletionRequest
from shared.problems import ServiceUnavailable

log = get_logger("completions")

BOT_PREFIX = "bot:"
MOST_BOTS = 1_000
"""OpenAI's list has no pages. Older bots answer too, for whoever knows their id."""

_BETWEEN_US = frozenset({401, 403})
"""The agent does not believe who we are: our caller's credential is not to blame."""

_LIVE_DOCUMENTS = """
    SELECT d.id FROM chat.documents d JOIN chat.bots b ON b.id = d.bot_id AND b.deleted_at IS NULL
    WHERE d.id = ANY($1::uuid[]) AND d.deleted_at IS NULL
"""
"""($1 documents) → those of them that nobody has deleted since they were found."""


@dataclass(frozen=True, slots=True)
class _Answering:
    """A bot that answers: what it adds to the turn."""

    bot: BotRead
    knowledge: Knowledge | None
    tools: list[str]

    def model(self) -> ModelChoice:
        configuration = self.bot.configuration
        return ModelChoice(
            provider=self.bot.provider,
            name=self.bot.model,
            temperature=configuration.temperature,
            max_tokens=configuration.max_tokens,
        )

    @property
    def collections(self) -> list[UUID]:
        return [self.bot.id] if self.knowledge is not None and self.knowledge.has_documents else []

    def retrieval(self) -> RetrievalOptions:
        wanted = self.bot.configuration.retrieval
        return RetrievalOptions(
            mode=wanted.mode,
            top_k=wanted.top_k,
            min_score=wanted.min_score,
            exclude_documents=[] if self.knowledge is None else [UUID(str(each)) for each in self.knowledge.deleted],
        )


class CompletionService:
    """No connection to the database is held while the agent works."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        agent: Agent,
        tools: AgentTools,
        models: AgentModels,
        places: CompletionPlaces,
        quotas: DayQuotas,
    ) -> None:
        self._database = database
        self._clock = clock
        self._agent = agent
        self._tools = tools
        self._models = models
        self._places = places
        self._quotas = quotas

    async def turn(self, actor: Actor, wanted: CompletionRequest, *, run_id: UUID) -> ChatRequest:
        """The turn that is asked for.

        Raises `UnknownModel`, `InvalidParameter`, the agent's problems, and `QuotaExceeded` where the caller's tokens
        of today are used up.

        Of a bot's configuration everything holds but `chat_history_length`: the caller says what the conversation is.
        Instructions of the caller come after the bot's. Nobody can be asked for approval here, so that of its tools
        those alone are offered that need none.
        """
        await self._check_tokens(actor.user_id)
        if not wanted.model.startswith(BOT_PREFIX):
            return chat_request(wanted, run_id=run_id, model=chosen_model(wanted.model))
        bot = await self._visible(actor.user_id, wanted.model)
        answering = await self._answering(bot)
        # A bot's tools read on behalf of the caller, so the credential has to be one that may read.
        may_read = Scope.CHAT_READ in actor.scopes
        return chat_request(
            wanted,
            run_id=run_id,
            model=answering.model(),
            system_prompt=bot.system_prompt,
            collections=answering.collections,
            retrieval=answering.retrieval().model_dump(),
            ground=SessionBot(bot.id, bot.system_prompt, bot.configuration).is_grounded,
            tools=answering.tools,
            approval_mode=ApprovalMode.RISKY,
            user=ChatUser(id=actor.user_id).model_dump() if may_read else None,
        )

    async def events(self, user_id: UUID, turn: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Have the agent answer, and count what that used, also where nobody hears its end.

        Raises the agent's problems, and `TooManyCompletions` before it is asked.
        """
        with self._places.taken():
            used = TurnUsage(turn)
            try:
                async with aclosing(self._agent.chat(turn)) as events:
                    async for event in events:
                        used.hear(event)
                        yield await self._live(event) if isinstance(event, CitationsEvent) else event
            except AgentRefused as refusal:
                if refusal.problem.status not in _BETWEEN_US:
                    raise
                log.warning("agent.refused_us", status=refusal.problem.status, code=refusal.problem.code)
                raise AgentBrokeOff("The agent service did not accept the request.") from None
            finally:
                # Not to be cancelled with a caller who goes away: that is when it matters.
                await asyncio.shield(self._count(user_id, used.tokens))

    async def _check_tokens(self, user_id: UUID) -> None:
        if (await self._quotas.plan(user_id)).tokens_per_day is not None:
            await self._quotas.check_tokens(user_id)

    async def _count(self, user_id: UUID, tokens: int) -> None:
        try:
            await self._quotas.add_tokens(user_id, tokens)
        except Exception as error:
            if not is_store_down(error):
                raise
            log.warning("completion.not_counted", user_id=user_id, tokens=tokens)

    async def models(self, user_id: UUID) -> OpenAIModelList:
        """The agent's models, then the bots that the person may use."""
        async with self._database.unit() as db:
            bots = await BotService(db, self._clock).latest(user_id, MOST_BOTS)
        listed = await self._models.listing()
        return OpenAIModelList(object="list", data=[*listed.data, *(_as_model(bot) for bot in bots)])

    async def model(self, user_id: UUID, model: str) -> OpenAIModel:
        """Raises `UnknownModel`."""
        if model.startswith(BOT_PREFIX):
            return _as_model(await self._visible(user_id, model))
        for known in (await self._models.listing()).data:
            if model in (known.id, known.owned_by):
                return known
        raise UnknownModel("There is no such model. `GET /v1/models` lists them.")

    async def embed(self, user_id: UUID, wanted: EmbeddingRequest) -> bytes:
        """The agent's answer, as it wrote it, and counted, also where nobody waits for it any more.

        Raises the agent's problems, and `QuotaExceeded` where the caller's tokens of today are used up.
        """
        await self._check_tokens(user_id)
        used = 0
        try:
            answer = await self._models.embed(wanted)
            used = told_tokens(answer) or embedding_tokens(wanted)
        except asyncio.CancelledError:
            used = embedding_tokens(wanted)
            raise
        finally:
            await asyncio.shield(self._count(user_id, used))
        return answer

    async def _visible(self, user_id: UUID, model: str) -> BotRead:
        try:
            bot_id = UUID(model.removeprefix(BOT_PREFIX))
            async with self._database.unit() as db:
                return read(await BotService(db, self._clock).visible(bot_id, user_id))
        except (ValueError, BotNotFound):
            raise UnknownModel("There is no such bot, or it is not shared with you.") from None

    async def _answering(self, bot: BotRead) -> _Answering:
        knowledge = None
        if SessionBot(bot.id, bot.system_prompt, bot.configuration).looks_things_up:
            row = await self._database.fetch_row(KNOWLEDGE, bot.id, MAX_EXCLUDED + 1)
            assert row is not None
            knowledge = Knowledge(row["has_documents"], row["deleted"])
            if len(knowledge.deleted) > MAX_EXCLUDED:
                raise DocumentsBeingDeleted
        has_documents = knowledge is not None and knowledge.has_documents
        return _Answering(bot, knowledge, await self._safe_tools(bot.configuration, has_documents=has_documents))

    async def _safe_tools(self, configuration: BotConfiguration, *, has_documents: bool) -> list[str]:
        wanted = effective_tools(None, configuration, has_documents)
        if not wanted or wanted == [SEARCH_KNOWLEDGE]:
            return wanted
        safe = [spec for spec in (await self._tools.listing()).items if spec.risk is ToolRisk.SAFE]
        return [spec.name for spec in safe if any(is_meant(name, spec) for name in wanted)]

    async def _live(self, event: CitationsEvent) -> CitationsEvent:
        named = list({citation.document_id for citation in event.citations})
        try:
            rows = await self._database.fetch_rows(_LIVE_DOCUMENTS, named)
        except Exception as error:
            # The answer has begun, so that no handler of the application's turns it into this any more.
            if is_store_down(error):
                raise ServiceUnavailable from None
            raise
        live = {row["id"] for row in rows}
        return CitationsEvent(citations=[citation for citation in event.citations if citation.document_id in live])


def _as_model(bot: BotRead) -> OpenAIModel:
    return OpenAIModel(
        id=f"{BOT_PREFIX}{bot.id}",
        object="model",
        created=int(bot.created_at.timestamp()),
        owned_by="colloquy",
        name=bot.name,
    )
