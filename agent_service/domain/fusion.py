"""One ranking out of two: by meaning (cosine of vectors) and by words (BM25).

A weighted sum of scores, which finds more than a sum of ranks: Bruch, Gai and Ingber, "An Analysis of Fusion Functions
for Hybrid Retrieval" (2023). Often each score is scaled by the list it stands in. Then the best of a list counts as
certain even where that part of the search knows nothing, and a weak part displaces what the other one has found. Here
scores are put on scales that do not depend on what was found:

- Words: BM25 divided by the sum of the inverse frequencies of the query's words. It is about 1 for a passage of average
  length that has each of them once, and stays far below where most of the query's words are missing.
- Meaning: by how many standard deviations the cosine is above those of passages taken at random, divided by `CERTAIN`.
  So models with narrow and with wide cosines, and all collections, get the same scale.

How much a part counts is read from its own scores. A part that has found something sets its best passage apart from
those that follow, and a part that gropes about scores them all alike (Shtok et al., "Predicting Query Performance by
Query-Drift Estimation", 2012). The weight is the square root of this lead.

Vectors hardly tell one number or code from another. Where the query consists of words with digits ("ORA-12154",
"#349318") and passages have them, meaning counts less, in the end nothing.

The constants are for the smallest loss against the better part, over collections of several kinds, each part also
weakened on purpose. Results change little around them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

CERTAIN = 7.0
"""Standard deviations above the background at which a cosine counts as much as a passage with all of the words."""

LEAD = 10
"""A part's best score is compared with the one so many places below."""

FEW_CODES = 0.2
"""The share of words with digits up to which meaning counts in full."""

MANY_CODES = 0.6
"""The share from which on it does not count."""

_FEW_PASSAGES = 10
_ALIKE = 1e-6


@dataclass(frozen=True, slots=True)
class QueryScale:
    """What the scores of one query are measured by.

    `idf_mass` is the sum of the inverse frequencies of the query's different words, also of those that no passage has,
    and `code_share` the part of it that belongs to words with digits which passages have.
    `mean` and `deviation` are those of the query's cosines with passages taken at random, of `passages` that there are.
    """

    idf_mass: float
    code_share: float
    mean: float
    deviation: float
    passages: int


class Fused(NamedTuple):
    """A passage and how well it fits, between 0 and 1."""

    chunk_id: UUID
    score: float


def code_share(words: Iterable[tuple[str, float]], idf_mass: float) -> float:
    """The share of words with digits in `idf_mass`, given the words that passages have, with inverse frequencies."""
    codes = math.fsum(weight for word, weight in words if any(character.isdigit() for character in word))
    return codes / idf_mass if idf_mass > 0 else 0.0


def text_score(bm25: float, idf_mass: float) -> float:
    """How well words alone fit, between 0 and 1: in the order of BM25, and comparable between queries."""
    return _below_one(bm25 / idf_mass) if idf_mass > 0 else 0.0


def fuse(dense: Mapping[UUID, float], text: Mapping[UUID, float], scale: QueryScale) -> list[Fused]:
    """Everything that either part has found, the best first; equals by meaning, then in the order of their ids.

    `dense` are cosines and `text` is BM25. Both should hold the true scores of all of the passages, also of those that
    only the other part has brought: one that is missing counts as no likeness at all. An empty part leaves the ranking
    to the other.
    """
    zero, certain = _cosines(scale)
    mass = scale.idf_mass if scale.idf_mass > 0 else math.inf
    chunk_ids = list({**dense, **text})
    likeness = [max(0.0, (dense.get(chunk_id, zero) - zero) / certain) for chunk_id in chunk_ids]
    words = [max(0.0, text.get(chunk_id, 0.0) / mass) for chunk_id in chunk_ids]
    dense_weight = math.sqrt(_lead(likeness)) * _without_codes(scale.code_share)
    text_weight = math.sqrt(_lead(words))
    if dense_weight + text_weight <= 0:
        dense_weight = text_weight = 1.0
    share = dense_weight / (dense_weight + text_weight)
    ranked = sorted(
        (-(share * meaning + (1 - share) * word), -meaning, chunk_id)
        for meaning, word, chunk_id in zip(likeness, words, chunk_ids, strict=True)
    )
    return [Fused(chunk_id, _below_one(-negative)) for negative, _, chunk_id in ranked]


def _below_one(fit: float) -> float:
    """In the same order, between 0 and 1. A limit would make equals of the best: words that come often go beyond 1."""
    return -math.expm1(-max(0.0, fit))


def _cosines(scale: QueryScale) -> tuple[float, float]:
    """The cosine that is no likeness at all, and how far above it one is as good as all of the words."""
    if scale.deviation < _ALIKE:
        # A single passage, or copies of one: nothing to compare with.
        return 0.0, 1.0
    # No value is further from the mean of n values than the root of n - 1 deviations.
    furthest = math.sqrt(max(scale.passages, _FEW_PASSAGES) - 1)
    return scale.mean, scale.deviation * min(CERTAIN, furthest)


def _lead(scores: Sequence[float]) -> float:
    best = heapq.nlargest(LEAD + 1, scores)
    return best[0] - (best[LEAD] if len(best) > LEAD else 0.0) if best else 0.0


def _without_codes(share: float) -> float:
    return min(1.0, max(0.0, (MANY_CODES - share) / (MANY_CODES - FEW_CODES)))
