"""The bot of a run's session: whether it may answer, what it adds to the turn, and what it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never
from uuid import UUID

from chat_api.bots.models import AgentType
from chat_api.bots.schemas import BotConfiguration

BOT_JOIN = """
    LEFT JOIN chat.bots b ON b.id = s.bot_id AND b.deleted_at IS NULL AND (
        b.owner_id = s.owner_id OR b.visibility = 'public' OR (b.visibility = 'shared' AND EXISTS (
            SELECT 1 FROM chat.bot_shares x WHERE x.bot_id = b.id AND x.user_id = s.owner_id
        ))
    )
"""
"""Joins to a session `s` its bot `b`, if the session's owner may use it. Without a `bot_id` nothing is looked up."""

PROVIDER = "coalesce(s.provider, b.provider)"
MODEL = "coalesce(s.model, CASE WHEN coalesce(s.provider, b.provider) IS NOT DISTINCT FROM b.provider THEN b.model END)"
"""The model that answers. A bot's model is of the bot's provider, so a session with another does not inherit it."""

BOT_COLUMNS = f"""
    {PROVIDER} AS provider, {MODEL} AS model, s.system_prompt, s.settings, s.participant_count, s.owner_id, s.bot_id,
    s.related_session_id,
    b.id IS NOT NULL AS has_bot, b.system_prompt AS bot_system_prompt, b.configuration AS bot_configuration
"""
"""What a claim takes from a session `s` and its bot `b`."""

BOT_NAME = "SELECT b.name FROM chat.sessions s JOIN chat.bots b ON b.id = s.bot_id WHERE s.id = $1"
"""($1 session) → what its bot is called, also where it may not be used: its run says so then."""

KNOWLEDGE = """
    SELECT
        EXISTS (SELECT 1 FROM chat.documents d WHERE d.bot_id = $1 AND d.deleted_at IS NULL) AS has_documents,
        ARRAY(SELECT d.id FROM chat.documents d WHERE d.bot_id = $1 AND d.deleted_at IS NOT NULL LIMIT $2) AS deleted
"""
"""($1 bot, $2 limit) → whether it has documents, and those that are deleted but may still be found."""

LIVE_CITATIONS = """
    CASE WHEN $15::jsonb IS NULL THEN '[]'::jsonb ELSE coalesce((
        SELECT jsonb_agg(c.citation ORDER BY c.position)
        FROM jsonb_array_elements($15::jsonb) WITH ORDINALITY AS c (citation, position)
        WHERE EXISTS (
            SELECT 1 FROM chat.documents d JOIN chat.bots b ON b.id = d.bot_id AND b.deleted_at IS NULL
            WHERE d.id = (c.citation ->> 'document_id')::uuid AND d.deleted_at IS NULL
        )
    ), '[]'::jsonb) END
"""
"""Citations without those of documents that were deleted since they were found, alone or with their bot.

The numbers stay: the text has them.
"""


@dataclass(frozen=True, slots=True)
class SessionBot:
    id: UUID
    system_prompt: str | None
    configuration: BotConfiguration

    @property
    def is_grounded(self) -> bool:
        """Whether passages are found before the model is asked; else it looks for them itself."""
        return self.configuration.agent_type is not AgentType.REACT

    @property
    def looks_things_up(self) -> bool:
        """Whether its documents are for the model at all."""
        match self.configuration.agent_type:
            case AgentType.CHAT:
                return False
            case AgentType.RAG | AgentType.REACT:
                return True
            case _:
                assert_never(self.configuration.agent_type)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a bot can find things in. `deleted` has one more than `MAX_EXCLUDED` where there are more."""

    has_documents: bool
    deleted: list[UUID]


def session_bot(row: Mapping[str, Any]) -> SessionBot | None:
    """The bot in a row of `BOT_COLUMNS`. None without one, or where the session's owner may not use it."""
    if not row["has_bot"]:
        return None
    configuration = BotConfiguration.model_validate(row["bot_configuration"])
    return SessionBot(UUID(str(row["bot_id"])), row["bot_system_prompt"], configuration)


def effective_settings(session: dict[str, Any], bot: SessionBot | None) -> dict[str, Any]:
    """The session's settings, and the bot's where the session leaves them open."""
    if bot is None:
        return session
    wanted = bot.configuration.model_dump(include={"temperature", "max_tokens", "chat_history_length"})
    return wanted | session


def joined_prompt(session: str | None, bot: SessionBot | None) -> str | None:
    """The bot's prompt, then the session's.

    The bot's says who speaks and by which rules, as its owner promised whoever uses it; the session's adds to that,
    and, being last, has the last word on manners. To be rid of the bot's, a session does without the bot.
    """
    if bot is None or not bot.system_prompt:
        return session
    return f"{bot.system_prompt}\n\n{session}" if session else bot.system_prompt
