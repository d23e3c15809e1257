"""What a query asks for, and what is shown of a text that has it."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_WORDS = 12
"""Of one query; the others are left out."""

_AROUND_WORDS = "\"'`“”‘’«»„.,;:!?¿¡()[]{}<>…"
_CUT = "…"


@dataclass(frozen=True, slots=True)
class Word:
    """`pattern` is a regular expression of PostgreSQL's that finds the word, or None where any place will do.

    What begins with a letter or digit of ASCII has to stand where a word begins: else `art` is in `party`. Other
    scripts may write no spaces, so their words may stand anywhere.
    """

    text: str

    @property
    def pattern(self) -> str | None:
        if not (self.text[0].isascii() and self.text[0].isalnum()):
            return None
        return "(^|[^[:alnum:]])" + re.escape(self.text)


def words_of(query: str) -> list[Word]:
    """The words of a query, each once, without the punctuation around them. Nothing in them is an operator."""
    found: dict[str, Word] = {}
    for piece in query.split():
        text = piece.strip(_AROUND_WORDS) or piece
        found.setdefault(text.lower(), Word(text))
        if len(found) == MOST_WORDS:
            break
    return list(found.values())


def snippet(excerpt: str, *, begins_inside: bool, ends_inside: bool) -> str:
    """One line of what stands around a match. Where it was cut out of more, whole words are left, and a mark."""
    parts = excerpt.split()
    # A text without spaces is one word, of which a part says more than nothing.
    if begins_inside and len(parts) > 2 and not excerpt[0].isspace():
        parts = parts[1:]
    if ends_inside and len(parts) > 2 and not excerpt[-1].isspace():
        parts = parts[:-1]
    return f"{_CUT if begins_inside else ''}{' '.join(parts)}{_CUT if ends_inside else ''}"
