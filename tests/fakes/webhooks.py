"""Addresses that are told of events, without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Received:
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read


@dataclass
class FakeSender:
    """Answers with the next of `answers`, and with 204 when there is none left. `hold` keeps requests waiting."""

    answers: list[int | Exception] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.received.append(Received(url, dict(headers), body))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else 204
        if isinstance(answer, Exception):
            raise answer
        return answer
