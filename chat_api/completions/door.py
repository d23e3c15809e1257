"""What the door holds for as long as the process lives."""

from __future__ import annotations

import httpx

from chat_api.clients.models import HttpAgentModels
from chat_api.completions.begun import RefusedAttempts
from chat_api.completions.places import CompletionPlaces
from chat_api.config import ApiSettings


class CompletionDoor:
    """The way to the agent's models, the places that completions take, and whom it refused."""

    def __init__(self, settings: ApiSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.models = HttpAgentModels(settings, transport=transport)
        self.places = CompletionPlaces(settings)
        self.refused = RefusedAttempts()

    async def close(self) -> None:
        await self.models.close()
