"""Which tools the assistant may call."""

from __future__ import annotations

from collections.abc import Sequence

from chat_api.bots.models import AgentType
from chat_api.bots.schemas import BotConfiguration
from shared.contracts.tools import MAX_TOOLS, SEARCH_KNOWLEDGE


def effective_tools(
    session_tools: Sequence[str] | None, configuration: BotConfiguration | None, has_documents: bool
) -> list[str]:
    """Names of tools, or `mcp:<server>` for all of a server's: the session's choice, else the bot's.

    A `react` bot with documents can always look into them: it is the only way that it gets to know them. Each is named
    once, and there are no more than a turn may name.
    """
    if session_tools is not None:
        chosen = list(session_tools)
    else:
        chosen = [] if configuration is None else list(configuration.tools)
    if configuration is not None and configuration.agent_type is AgentType.REACT and has_documents:
        chosen.insert(0, SEARCH_KNOWLEDGE)
    return list(dict.fromkeys(chosen))[:MAX_TOOLS]
