"""Where sentences begin and end, in time linear in the text whatever the text is."""

from __future__ import annotations

import re

# Patterns only find candidates: none looks ahead or can begin a second time inside its own match. What decides
# is plain code with bounded steps, so a megabyte of dots costs what a megabyte of prose costs.
_CANDIDATE = re.compile(
    r"([.!?…؟۔።]+)[\"'”’»)\]*_]*"  # 1: may end a sentence
    r"|([。！？｡．।॥]+)[”’」』】）\"')\]]*"  # 2: ends one, with or without a space after it
    r"|\n[ \t]*(?:(\n)|((?:[-*+•‣◦▪–—|>#]|\(?\d{1,3}[.)])[ \t])|)"  # 3: a blank line, 4: an item of a list
)
_SIGN, _FULL_SIGN, _BLANK_LINE, _ITEM = range(1, 5)
_SHORTEST = 12
_WORD_LOOK_BACK = 24
_WITH_PERIOD = (
    "mr mrs ms dr prof st sr jr rev hon gen col capt lt sgt vs viz approx ca cf al fig figs eq eqs ref refs no nos "
    "vol vols pp p ed eds ch sec sect dept univ inc ltd co corp bros est e.g i.e a.k.a ie eg resp incl excl "
    "jan feb mar apr jun jul aug sep sept oct nov dec nr bzw z.b d.h u.a ggf evtl inkl str tel abs vgl bspw sog "
    "mme mlle n° sra srta uds núm pág"
)
_ABBREVIATIONS = frozenset(_WITH_PERIOD.split())


def sentences(text: str) -> list[tuple[int, int]]:
    """The spans of its sentences, without the white space around them, in order.

    A paragraph, and an item of a list, ends a sentence; so does a line that ends like one. Other line ends do not:
    text is often wrapped. Decimals, abbreviations, initials and numbered items do not end one. What is shorter than
    a few words stays with what follows in its paragraph.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    after_sign = -1
    for match in _CANDIDATE.finditer(text):
        kind = match.lastindex
        if kind == _SIGN:
            border = after_sign = match.end()
            if border - start < _SHORTEST or not _ends(text, match[_SIGN], match.start(), border):
                continue
        elif kind == _FULL_SIGN:
            border = after_sign = match.end()
        else:
            # The mark of an item belongs to its line. A line that ends with a sign ends a sentence in any case.
            border = match.start() + 1
            if kind is None and match.start() != after_sign:
                continue
        if kind == _BLANK_LINE or border - start >= _SHORTEST:
            _add(spans, text, start, border)
            start = border
    _add(spans, text, start, len(text))
    return spans


def ends_sentence(text: str) -> bool:
    """Whether a sentence ends where this text does, as far as the text alone can tell."""
    return text.rstrip("\"'”’»)]*_」』】）").endswith((*".!?…؟۔።。！？｡．।॥:;",))


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.lstrip()
    if stripped:
        start += len(piece) - len(stripped)
        spans.append((start, start + len(stripped.rstrip())))


def _ends(text: str, sign: str, at: int, end: int) -> bool:
    """Whether the sign at `at`, with the brackets and quotes that `end` is behind, ends a sentence."""
    following = text[end : end + 2]
    if not following or not following[0].isspace() or following[1:].islower():
        return False
    return sign != "." or not _is_abbreviation(text, at)


def _is_abbreviation(text: str, period: int) -> bool:
    """Whether the word before a single period is one that goes on after it: `Dr.`, `e.g.`, `J.`, `3.` of a list."""
    before = text[max(0, period - _WORD_LOOK_BACK) : period]
    words = before.split()
    if not words or before[-1].isspace():
        return False
    word = words[-1].lstrip("(['\"“‘«")
    if len(word) == 1 and word.isalpha():
        return word.isupper() or len(words) == 1
    if word.isdecimal():
        return len(word) <= 3 and _begins_line(before, len(before) - len(word), period)
    return word.lower() in _ABBREVIATIONS or (len(word) <= 7 and "." in word and _is_initials(word))


def _begins_line(before: str, at: int, period: int) -> bool:
    return (at == 0 and period <= 3) or (at > 0 and before[:at].rstrip(" \t")[-1:] in {"\n", ""} and period >= at)


def _is_initials(word: str) -> bool:
    return all(len(part) <= 1 for part in word.split("."))
