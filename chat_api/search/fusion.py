"""Two rankings made one: what both find stands above what one of them finds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def fused(*rankings: Mapping[Key, float]) -> dict[Key, float]:
    """Scores from 0 to 1, the best first: the mean of each ranking's, which is stretched from 0 to 1 before.

    What a ranking does not have counts as its worst. Of several ways to fuse passages this one ranked best
    (`docs/adr/0008-retrieval.md`), because it keeps how far apart two results are.
    """
    total: dict[Key, float] = {}
    filled = [ranking for ranking in rankings if ranking]
    for ranking in filled:
        low, high = min(ranking.values()), max(ranking.values())
        for key, score in ranking.items():
            stretched = (score - low) / (high - low) if high > low else 1.0
            total[key] = total.get(key, 0.0) + stretched / len(filled)
    return dict(sorted(total.items(), key=lambda item: -item[1]))
