"""Cuts a stream of text at the first of some sequences."""

from __future__ import annotations

from collections.abc import Sequence


class StopSequences:
    """Text that may be the beginning of a sequence is held back until it is known not to be."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = sequences
        self._held = ""
        self.reached = False

    def feed(self, text: str) -> str:
        """What may be said of it. Nothing more is to be fed once a sequence is `reached`."""
        if not self._sequences:
            return text
        said = self._held + text
        # The one that is whole first, so that it makes no difference in which pieces the text arrives.
        found = [(at + len(sequence), at) for sequence in self._sequences if (at := said.find(sequence)) >= 0]
        if found:
            self.reached, self._held = True, ""
            return said[: min(found)[1]]
        held = max(_overlap(said, sequence) for sequence in self._sequences)
        self._held = said[len(said) - held :]
        return said[: len(said) - held]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, sequence: str) -> int:
    """How much of the sequence's beginning the text ends with."""
    longest = min(len(sequence) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(sequence[:length])), 0)
