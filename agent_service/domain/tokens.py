"""How much of a model's context a text takes, without its tokenizer."""

from __future__ import annotations


def estimated_tokens(text: str) -> int:
    """About how many tokens a text takes: four ASCII characters each, other scripts up to two per character."""
    plain = len(text.encode("ascii", "ignore"))
    return -(-plain // 4) + 2 * (len(text) - plain)
