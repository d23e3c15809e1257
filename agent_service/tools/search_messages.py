"""Finds messages of earlier conversations."""

from __future__ import annotations

from typing import Any

from agent_service.ports.tools import BUILTIN, MessageSearch, ToolContext, ToolFailed, ToolOutput, ToolSpec
from shared.contracts.tools import ToolRisk

MAX_MESSAGES = 10
_USUAL_MESSAGES = 5


class SearchMessages:
    """`seconds` is how long it may take."""

    def __init__(self, messages: MessageSearch, *, seconds: float) -> None:
        self._messages = messages
        self.spec = ToolSpec(
            name="search_messages",
            title="Search earlier messages",
            description="Finds messages that the user wrote or got earlier, in this and other conversations.",
            source=BUILTIN,
            risk=ToolRisk.SAFE,
            repeatable=True,
            parameters={
                "type": "object",
                "properties": {
                    "query": {
                        "type": "string",
                        "description": "Words that the message contains.",
                        "minLength": 1,
                        "maxLength": 500,
                    },
                    "limit": {
                        "type": "integer",
                        "description": "How many messages.",
                        "minimum": 1,
                        "maximum": MAX_MESSAGES,
                    },
                },
                "required": ["query"],
                "additionalProperties": False,
            },
            timeout_seconds=seconds,
        )

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolOutput:
        query = arguments["query"].strip()
        if not query:
            raise ToolFailed("The query is empty.")
        if context.user_id is None:
            raise ToolFailed("Nobody is known to ask, so there are no messages to search.")
        limit = int(arguments.get("limit", _USUAL_MESSAGES))
        return ToolOutput(await self._messages.search(query, context, limit=limit))
