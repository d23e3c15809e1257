"""The collaborators of the search routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from chat_api.auth.dependencies import TheSettings
from chat_api.clients.embeddings import TheTextEmbedder
from chat_api.kit.dependencies import Statements
from chat_api.search.service import MessageSearch


async def get_message_search(database: Statements, settings: TheSettings, embedder: TheTextEmbedder) -> MessageSearch:
    return MessageSearch(database, embedder if settings.message_embeddings else None)


TheMessageSearch = Annotated[MessageSearch, Depends(get_message_search)]
