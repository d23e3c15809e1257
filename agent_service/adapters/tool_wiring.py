"""Chooses the tools that the settings ask for."""

from __future__ import annotations

from agent_service.adapters.guarded_http import GuardedHttp
from agent_service.config import AgentSettings
from agent_service.ports.passages import PassageSearch
from agent_service.ports.tools import MessageSearch, Tool
from agent_service.tools.calculator import Calculator
from agent_service.tools.current_time import CurrentTime
from agent_service.tools.fetch_url import FetchUrl
from agent_service.tools.search_knowledge import SearchKnowledge
from agent_service.tools.search_messages import SearchMessages
from shared.web.guarded_network import AddressGuard, SystemResolver


def assemble_tools(settings: AgentSettings, searches: PassageSearch, messages: MessageSearch) -> list[Tool]:
    """The built-in tools."""
    web = GuardedHttp(AddressGuard(SystemResolver()))
    return [
        Calculator(),
        CurrentTime(),
        SearchKnowledge(searches, seconds=settings.retrieval_seconds),
        SearchMessages(messages, seconds=settings.message_search_seconds),
        FetchUrl(web, seconds=settings.fetch_seconds, max_bytes=settings.fetch_bytes),
    ]
