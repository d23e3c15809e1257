"""How much is seeded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never


class Size(StrEnum):
    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


@dataclass(frozen=True)
class Amount:
    """`chunks` are the passages of each document."""

    people: int
    conversations: int
    bots: int
    documents: int
    chunks: int


def amount_of(size: Size) -> Amount:
    match size:
        case Size.SMALL:
            return Amount(people=3, conversations=10, bots=1, documents=1, chunks=5)
        case Size.MEDIUM:
            return Amount(people=8, conversations=100, bots=2, documents=10, chunks=50)
        case Size.LARGE:
            return Amount(people=20, conversations=500, bots=5, documents=50, chunks=200)
        case _:
            assert_never(size)
