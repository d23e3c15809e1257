"""BM25: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009).

The part that depends on the passage alone is computed when it is indexed (the weight of each of its words); the part
that depends on the collection when it is searched (`inverse_frequency`). The score is their inner product.
"""

from __future__ import annotations

import math

K1 = 1.2
"""How fast a word that comes again stops counting."""

B = 0.75
"""How much longer passages are held back: 0 not at all, 1 in full."""

DRIFT = 0.25
"""The mean length may move by this share before the weights that were made with it are made anew."""


def inverse_frequency(total: int, holding: int) -> float:
    """What a word is worth that `holding` of `total` passages have. Never negative."""
    return math.log(1 + (total - holding + 0.5) / (holding + 0.5)) if holding <= total else 0.0


def has_drifted(mean: float, weighted_mean: float) -> bool:
    """Whether weights that were made with one mean length are wrong for the other."""
    return abs(mean - weighted_mean) > DRIFT * weighted_mean


TIERS = (2, 3, 5, 8, 13, 21)
"""How often a passage has to have a word to be among those that stand out for it."""
