"""The bounded memory of verified tokens."""

from __future__ import annotations

from shared.remembered_tokens import RememberedTokens


def test_a_token_is_remembered_until_it_expires() -> None:
    tokens = RememberedTokens[str]()
    tokens.put("token", "ann", expires_at=100)

    assert tokens.get("token", 99.9) == "ann"
    assert tokens.get("other", 99.9) is None
    assert tokens.get("token", 100) is None
    assert len(tokens) == 0


def test_the_token_used_longest_ago_makes_room() -> None:
    tokens = RememberedTokens[str](most=3)
    for name in "abc":
        tokens.put(name, "ann", expires_at=100)
    tokens.get("a", 0)

    tokens.put("d", "ann", expires_at=100)

    assert len(tokens) == 3
    assert [tokens.get(name, 0) is None for name in "abcd"] == [False, True, False, False]


def test_the_memory_stays_bounded() -> None:
    tokens = RememberedTokens[str](most=100)

    for number in range(1000):
        tokens.put(f"token {number}", "ann", expires_at=100)

    assert len(tokens) == 100


def test_what_is_no_text_is_looked_up_too() -> None:
    assert RememberedTokens[str]().get("\ud800", 0) is None
