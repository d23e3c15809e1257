"""How long to measure, and how often."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """`rounds` pairs of ours and the limit's, each of `seconds` after a warm-up."""

    rounds: int = 5
    seconds: float = 4.0
    warm_up_seconds: float = 1.0
    history_messages: int = 10_000
    short: bool = False

    @classmethod
    def shortest(cls) -> Plan:
        """Enough to see that everything runs; the figures mean little."""
        return cls(rounds=1, seconds=0.3, warm_up_seconds=0.1, history_messages=200, short=True)


def plan_from_arguments(description: str | None) -> Plan:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--short", action="store_true", help="see that it runs; the figures mean little")
    return Plan.shortest() if parser.parse_args().short else Plan()
