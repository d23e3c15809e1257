"""What somebody types into a search box, as the words, phrases and prefixes that it asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_TERMS = 16
"""Of one query; the others are left out."""

_TERM = re.compile(r'(?P<minus>-?)(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')
_SHORTEST_PREFIX = 2
# Quotation marks and backslashes mean something inside a quoted lexeme of PostgreSQL's, and are no part of a word.
_QUOTING = str.maketrans({"'": " ", "\\": " "})
_AROUND_WORDS = "\"'`“”‘’«»„.,;:!?¿¡()[]{}<>…"


@dataclass(frozen=True, slots=True)
class Term:
    """A word, or words that stand one after the other. Whatever is in `text`, nothing of it is an operator."""

    text: str
    is_prefix: bool = False
    is_excluded: bool = False


def terms_of(query: str) -> list[Term]:
    """`harbour fees` both, `"harbour fees"` as a phrase, `harb*` what begins so, `-fees` not that. Never fails."""
    terms: list[Term] = []
    for match in _TERM.finditer(query):
        term = _term(match)
        if term is not None and term not in terms:
            terms.append(term)
        if len(terms) == MOST_TERMS:
            break
    # Without a word to look for there is nothing that could be found, only everything that is not excluded.
    return terms if any(not term.is_excluded for term in terms) else []


def word_terms(text: str) -> list[Term]:
    """The words of a text, each once, as what a word may begin with; for those who ask in sentences."""
    found: dict[str, Term] = {}
    for piece in text.split():
        word = piece.strip(_AROUND_WORDS).translate(_QUOTING).strip()
        if _has_words(word):
            found.setdefault(word.lower(), Term(word, is_prefix=len(word) >= _SHORTEST_PREFIX))
        if len(found) == MOST_TERMS:
            break
    return list(found.values())


def _term(match: re.Match[str]) -> Term | None:
    text = (match["phrase"] if match["word"] is None else match["word"]).translate(_QUOTING).strip()
    word = text.rstrip("*")
    is_prefix = match["word"] is not None and word != text and len(word) >= _SHORTEST_PREFIX
    if not _has_words(word):
        return None
    return Term(word, is_prefix=is_prefix, is_excluded=bool(match["minus"]))


def _has_words(text: str) -> bool:
    return any(character.isalnum() for character in text)
