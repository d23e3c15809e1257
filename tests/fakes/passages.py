"""A search that finds what the test put there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.contracts.knowledge import Passage, SearchRequest
from shared.problems import Problem


@dataclass
class FakePassageSearch:
    """Finds `passages` for every query, `top_k` of them at most, after `delay` seconds; or fails with `problem`."""

    passages: Sequence[Passage] = ()
    problem: Problem | None = None
    delay: float = 0.0
    requests: list[SearchRequest] = field(default_factory=list)
    owners: list[UUID | None] = field(default_factory=list)

    async def search(self, request: SearchRequest, *, owner_id: UUID | None) -> list[Passage]:
        self.requests.append(request)
        self.owners.append(owner_id)
        await asyncio.sleep(self.delay)
        if self.problem is not None:
            raise self.problem
        return list(self.passages[: request.top_k])
