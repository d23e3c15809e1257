"""How thoroughly faults are tried, and how strictly what is promised about time is taken."""

from __future__ import annotations

import os

# Read now: before the first test starts, variables of this project are taken from the environment.
ROUNDS = int(os.environ.get("COLLOQUY_FAULT_ROUNDS", "1"))
_PATIENCE = 3.0


def promised(seconds: float) -> float:
    """At its word by `make faults`, on a machine that does nothing else.

    Three times that where each fault is tried once: there, other tests and other people load the machine, and a
    process that takes 2 s to start may take 10.
    """
    return seconds if ROUNDS > 1 else _PATIENCE * seconds
