"""Sentences and the words in them that carry meaning: what one text is compared with another by.

Rough on purpose: no dictionary, no model, microseconds per sentence. Word endings are English, numbers and names are
anybody's, scripts without spaces are compared by pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_SENTENCE_END = re.compile(r"[.!?…]{1,5}[\"'”’»)\]]{0,3}(?=\s)|[。！？]{1,5}[」』”）]{0,3}|\n")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|e\.g|i\.e|etc|approx|Mr|Mrs|Ms|Dr|Prof|St|Nr|vs|cf|Fig|p|pp|z\.B|bzw|ca))\.$"
)
_WORD = re.compile(r"\d+(?:[.,:]\d+)+|\w+(?:['’]\w+)?")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_ABBREVIATION_REACH = 8

_FUNCTION_WORD_LIST = """
a about above after again all also am an and any are as at be because been before being below between both but by
can could did do does doing down during each few for from further had has have having he her here hers him his how i
if in into is it its itself just me more most my no nor not now of off on once only or other our out over own per
same she should so some such than that the their them then there these they this those through to too under until up
upon us very was we were what when where which while who whom why will with would yes you your don't doesn't didn't
isn't aren't wasn't weren't can't cannot won't it's according answer document documents mention mentioned mentions
passage passages say says said source sources state stated states text question provided based however therefore der
die das den dem des ein eine einen einem einer eines und oder ist sind war waren wird werden von vom zu zum zur im
auf aus bei mit nach für als auch es er sie wir ich nicht wie wer wo wann um le la les un une du de et ou est sont
était au aux en dans sur pour par avec ne pas qui que il elle ce cette el los las una y o son del al por con para se
su lo
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())
_NUMBER_LIST = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty
"""
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_LIST.split())} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
}  # fmt: skip
_ENDINGS = ("ingly", "edly", "ings", "ing", "ied", "ies", "ed", "es", "ly", "s", "e", "y")
_SHORTEST_STEM = 3


@dataclass(frozen=True, slots=True)
class Sentence:
    """`terms` are its meaningful words, `numbers` and `names` those of them that are such."""

    text: str
    start: int
    terms: frozenset[str]
    numbers: frozenset[str]
    names: frozenset[str]

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def sentences_of(text: str) -> list[Sentence]:
    """In order, without the white space around them. A line's end ends a sentence."""
    return [sentence_at(text, start, end) for start, end in spans_of(text)]


def sentence_at(text: str, start: int, end: int) -> Sentence:
    part = text[start:end]
    terms: set[str] = set()
    numbers: set[str] = set()
    names: set[str] = set()
    for index, match in enumerate(_WORD.finditer(part)):
        word = match.group()
        for term in terms_of_word(word):
            terms.add(term)
            if term[0].isdigit():
                numbers.add(term)
            elif index and word[0].isupper():
                names.add(term)
    return Sentence(part, start, frozenset(terms), frozenset(numbers), frozenset(names))


def spans_of(text: str) -> list[tuple[int, int]]:
    """Where the sentences begin and end."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        if _ABBREVIATION.search(text, max(start, end - _ABBREVIATION_REACH), end):
            continue
        _add_span(spans, text, start, end)
        start = end
    _add_span(spans, text, start, len(text))
    return spans


def _add_span(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    part = text[start:end]
    stripped = part.strip()
    if stripped:
        begin = start + part.index(stripped[0])
        spans.append((begin, begin + len(stripped)))


def terms_of(text: str) -> frozenset[str]:
    return frozenset(term for match in _WORD.finditer(text) for term in terms_of_word(match.group()))


@lru_cache(maxsize=8_192)
def terms_of_word(word: str) -> tuple[str, ...]:
    """The word as it is compared: folded, without its ending; numbers as digits. None for a word without meaning."""
    folded = unicodedata.normalize("NFKC", word).casefold().replace("’", "'")
    if folded[0].isdigit():
        return (_THOUSANDS.sub("", folded),)
    if folded in _NUMBERS:
        return (_NUMBERS[folded],)
    if _UNSPACED.search(folded):
        return tuple(folded[index : index + 2] for index in range(max(1, len(folded) - 1)))
    folded = folded.removesuffix("'s")
    if folded in _FUNCTION_WORDS or (len(folded) == 1 and folded.isascii()):
        return ()
    return (_stem(folded),)


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            stem = word.removesuffix(ending)
            # "stopped" and "stop"; but "fall" and "falls"
            if ending in ("ing", "ed") and len(stem) > _SHORTEST_STEM and stem[-1] == stem[-2] and stem[-1] not in "ls":
                stem = stem[:-1]
            return stem
    return word
