"""Keys are asked for once in a while, and forgotten."""

from __future__ import annotations

from uuid import UUID

import pytest

from agent_service.application.check_key import RememberedKeys
from agent_service.domain.problems import ChatApiUnavailable
from shared.contracts.introspection import KeyIntrospection

OWNER = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")


class CountingIntrospector:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def introspect(self, key: str) -> KeyIntrospection:
        self.asked.append(key)
        if self.down:
            raise ChatApiUnavailable
        return KeyIntrospection(active=True, user_id=OWNER, scopes=["agent:invoke"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_asks_again_only_after_its_time() -> None:
    clock, source = Clock(), CountingIntrospector()
    keys = RememberedKeys(source, seconds=30, now=clock)
    await keys.introspect("cq_a")
    clock.now = 29.9
    await keys.introspect("cq_a")
    assert source.asked == ["cq_a"]
    clock.now = 30.1
    await keys.introspect("cq_a")
    assert source.asked == ["cq_a", "cq_a"]


async def test_keeps_a_bounded_number() -> None:
    source = CountingIntrospector()
    keys = RememberedKeys(source, size=2, now=Clock())
    for key in ("cq_a", "cq_b", "cq_c", "cq_a"):
        await keys.introspect(key)
    assert source.asked == ["cq_a", "cq_b", "cq_c", "cq_a"]


async def test_does_not_remember_a_failure() -> None:
    source = CountingIntrospector()
    keys = RememberedKeys(source, now=Clock())
    source.down = True
    with pytest.raises(ChatApiUnavailable):
        await keys.introspect("cq_a")
    source.down = False
    assert (await keys.introspect("cq_a")).active
