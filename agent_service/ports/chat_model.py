"""A model that answers in a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from agent_service.domain.turn import ModelCall, ModelEvent


class ChatModel(Protocol):
    """One provider, with all of its models."""

    def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        """Answer the call. Closing or cancelling the generator closes the connection to the model at once.

        Raises a `ModelProblem`; never ends quietly without `Finished`.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections and processes."""
        ...
