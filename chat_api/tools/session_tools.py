"""What the assistant may call in a session, as the agent offers it now."""

from __future__ import annotations

from uuid import UUID

from chat_api.bots.errors import BotNotFound
from chat_api.bots.models import AgentType
from chat_api.bots.schemas import BotConfiguration
from chat_api.bots.service import BotService
from chat_api.bots.tools import effective_tools
from chat_api.clients.tools import AgentTools
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.sessions.errors import SessionNotFound
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.schemas import SessionRead
from chat_api.sessions.service import SessionService
from chat_api.tools.repository import ToolRepository
from chat_api.tools.schemas import SessionToolRead, SessionTools
from shared.contracts.tools import ToolSpecRead


class SessionToolbox:
    """Holds no connection while it waits for the agent."""

    def __init__(
        self,
        database: Database,
        hints: SessionHints,
        clock: Clock,
        repository: ToolRepository,
        agent: AgentTools,
    ) -> None:
        self._database = database
        self._hints = hints
        self._clock = clock
        self._repository = repository
        self._agent = agent

    async def of(self, session_id: UUID, user_id: UUID) -> SessionTools:
        """None where the session's bot may not be used: then nobody answers.

        Raises `SessionNotFound`, and what the agent's client raises when the agent is away.
        """
        session, names = await self._named(session_id, user_id)
        offered = (await self._agent.listing()).items if names else []
        found = {name: [spec for spec in offered if is_meant(name, spec)] for name in names}
        specs = {spec.name: spec for meant in found.values() for spec in meant}
        return SessionTools(
            approval_mode=session.approval_mode,
            items=[_read(spec, session) for spec in specs.values()],
            unknown=[name for name, meant in found.items() if not meant],
        )

    async def _named(self, session_id: UUID, user_id: UUID) -> tuple[SessionRead, list[str]]:
        async with self._database.unit() as db:
            seen = await SessionService(db, self._clock, self._hints).seen_by(session_id, user_id)
            if seen is None:
                raise SessionNotFound
            session, _ = seen
            configuration: BotConfiguration | None = None
            if session.bot_id is not None:
                try:
                    bot = await BotService(db, self._clock).visible(session.bot_id, session.owner_id)
                except BotNotFound:
                    return session, []
                configuration = BotConfiguration.model_validate(bot.configuration)
        has_documents = (
            configuration is not None
            and session.bot_id is not None
            and configuration.agent_type is AgentType.REACT
            and await self._repository.has_documents(session.bot_id)
        )
        return session, effective_tools(session.settings.tools, configuration, has_documents)


def is_meant(name: str, spec: ToolSpecRead) -> bool:
    """Whether `name`, of a tool or `mcp:<server>`, stands for this tool."""
    return name == spec.name or (name.startswith("mcp:") and name == spec.source)


def _read(spec: ToolSpecRead, session: SessionRead) -> SessionToolRead:
    return SessionToolRead(
        name=spec.name,
        title=spec.title,
        description=spec.description,
        source=spec.source,
        risk=spec.risk,
        parameters=spec.parameters,
        needs_approval=session.approval_mode.asks_for(spec.risk),
    )
