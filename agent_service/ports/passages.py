"""Passages that fit a question, from the collections that the asker may see."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from shared.contracts.knowledge import Passage, SearchRequest


class PassageSearch(Protocol):
    async def search(self, request: SearchRequest, *, owner_id: UUID | None) -> list[Passage]:
        """The best first, `top_k` at most.

        `owner_id` None is a service, which sees every collection; a person sees only what is theirs. Raises a
        `Problem`: a collection that the asker may not see, an index or an embedder that does not answer, an index
        whose vectors another model made.
        """
        ...
