"""The bounded memory of verified tokens."""

from __future__ import annotations

from uuid import UUID, uuid4

from chat_api.auth.actors import ALL_SCOPES, Actor
from chat_api.auth.remembered import RememberedTokens


def _actor(user_id: UUID | None = None) -> Actor:
    return Actor(user_id or uuid4(), ALL_SCOPES, None)


def test_a_token_is_remembered_until_it_expires() -> None:
    tokens, actor = RememberedTokens(), _actor()
    tokens.put("token", actor, expires_at=100)

    assert tokens.get("token", 99.9) == actor
    assert tokens.get("other", 99.9) is None
    assert tokens.get("token", 100) is None
    assert len(tokens) == 0


def test_the_token_used_longest_ago_makes_room() -> None:
    tokens = RememberedTokens(most=3)
    for name in "abc":
        tokens.put(name, _actor(), expires_at=100)
    tokens.get("a", 0)

    tokens.put("d", _actor(), expires_at=100)

    assert len(tokens) == 3
    assert [tokens.get(name, 0) is None for name in "abcd"] == [False, True, False, False]


def test_the_memory_stays_bounded() -> None:
    tokens = RememberedTokens(most=100)

    for number in range(1000):
        tokens.put(f"token {number}", _actor(), expires_at=100)

    assert len(tokens) == 100
