"""The collaborators of the search routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from chat_api.kit.db import Statements
from chat_api.search.service import MessageSearch


async def get_message_search(database: Statements) -> MessageSearch:
    return MessageSearch(database)


TheMessageSearch = Annotated[MessageSearch, Depends(get_message_search)]
