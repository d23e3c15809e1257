"""Documents cut into passages of whole sentences, each under one heading."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import NamedTuple

from agent_service.domain.passage import NewChunk
from agent_service.domain.sentences import ends_sentence, sentences
from shared.contracts.knowledge import Block

BLOCK_GAP = "\n\n"
SPECIAL_TOKENS = 2
_HEADING_SEPARATOR = " › "
# A tokenizer may take a word of any length for one token that it does not know.
_CHARACTERS_PER_TOKEN = 10
_SMALL_SHARE = 0.15

CountTokens = Callable[[Sequence[str]], list[int]]

# A comma inside a number ends no clause. Possessive, so that nothing is tried twice.
_CLAUSES = re.compile(r"(?:[^,;:\n–—，；：、]++|[,;:](?!\s))*+[,;:\n–—，；：、]*+")
_WORDS = re.compile(r"\S+")
_WORDS_TOGETHER = 14  # characters: few enough to have fewer tokens than any limit
_BALANCED_CHUNKS = 12  # in a section of more, the sizes are alike already

_MOST_HALVINGS = 20  # of what a block can hold

_Unit = tuple[int, int]
"""What stays whole: a sentence, or a part of one that is too long. Characters of the document's text."""


@dataclass(frozen=True, slots=True)
class _Section:
    """Blocks that follow each other under the same heading."""

    heading: str | None
    units: list[_Unit]


def document_text(blocks: Sequence[Block]) -> str:
    """What the character ranges of its chunks count in."""
    return BLOCK_GAP.join(block.text for block in blocks)


def chunk(blocks: Sequence[Block], count_tokens: CountTokens, max_tokens: int) -> list[NewChunk]:
    """Chunks in reading order, whose embedded text has at most `max_tokens` tokens, two special ones among them.

    Sentences stay whole unless one alone is too long; then it is cut between clauses, else words, else characters. A
    section that needs n chunks is cut into n of like size: short tails are found less well. Tokens of the parts of a
    text are added up, which fits tokenizers that cut at white space first; `count_tokens` is called a few times for
    a whole document, and may count special tokens with each text or not.
    """
    text = document_text(blocks)
    starts = list(accumulate((len(block.text) + len(BLOCK_GAP) for block in blocks), initial=0))
    sections = list(_sections(blocks, starts, text))
    counter = _Counter(count_tokens)
    headings = _fitting_headings({section.heading for section in sections}, counter, max_tokens)
    limits = [max_tokens - SPECIAL_TOKENS - headings[section.heading].tokens for section in sections]
    chunks: list[NewChunk] = []
    for section, limit, units, tokens in _refined(sections, limits, text, counter):
        shown = headings[section.heading].text
        for first, last in _packed(units, tokens, limit):
            start, end = units[first][0], units[last][1]
            page = blocks[bisect_right(starts, start) - 1].page
            chunks.append(NewChunk(text[start:end], shown, page, start, end))
    return chunks


class _ShownHeading(NamedTuple):
    text: str | None
    tokens: int


class _Counter:
    """Counts a text's own tokens, whether or not the tokenizer adds special ones."""

    def __init__(self, count_tokens: CountTokens) -> None:
        self._count = count_tokens
        self._special: int | None = None

    def __call__(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        if self._special is None:
            special, *counts = self._count(["", *texts])
            self._special = special
        else:
            counts = self._count(texts)
        return [max(1, count - self._special) for count in counts]


def _sections(blocks: Sequence[Block], starts: Sequence[int], text: str) -> list[_Section]:
    """Sentences by heading. One that a page ends in the middle of goes on across it."""
    sections: list[_Section] = []
    page: int | None = None
    for block, offset in zip(blocks, starts, strict=False):
        if not sections or sections[-1].heading != block.heading:
            sections.append(_Section(block.heading, []))
        known = sections[-1].units
        units = [(offset + start, offset + end) for start, end in sentences(block.text)]
        if known and units and page != block.page and _goes_on(text, known[-1], units[0]):
            units[0] = (known.pop()[0], units[0][1])
        known.extend(units)
        page = block.page
    return sections


def _goes_on(text: str, before: _Unit, after: _Unit) -> bool:
    return text[after[0]].islower() and not ends_sentence(text[max(before[0], before[1] - 8) : before[1]])


def _fitting_headings(headings: set[str | None], counter: _Counter, max_tokens: int) -> dict[str | None, _ShownHeading]:
    """The end of a heading's path where all of it takes more than half of a chunk."""
    most = (max_tokens - SPECIAL_TOKENS) // 2
    fitting: dict[str | None, _ShownHeading] = {None: _ShownHeading(None, 0)}
    tried = {heading: heading for heading in sorted(filter(None, headings))}
    while tried:
        counts = counter(list(tried.values()))
        shorter: dict[str, str] = {}
        for (heading, shown), count in zip(tried.items(), counts, strict=True):
            if count <= most:
                fitting[heading] = _ShownHeading(shown, count)
            elif tail := _shorter(shown):
                shorter[heading] = tail
            else:
                fitting[heading] = _ShownHeading(None, 0)
        tried = shorter
    return fitting


def _shorter(heading: str) -> str:
    """Without its highest part, or where there is one part only, without its second half."""
    _, separator, rest = heading.partition(_HEADING_SEPARATOR)
    return rest if separator else heading[: len(heading) // 2].rstrip()


def _refined(
    sections: Sequence[_Section], limits: Sequence[int], text: str, counter: _Counter
) -> Iterator[tuple[_Section, int, list[_Unit], list[int]]]:
    """Each section with its limit, its units and their tokens, none above the limit."""
    counts = iter(counter([text[start:end] for section in sections for start, end in section.units]))
    counted = [list(zip(section.units, counts, strict=False)) for section in sections]
    for cut in (_clauses, _words, *repeat(_halves, _MOST_HALVINGS)):
        long = [
            unit
            for pairs, limit in zip(counted, limits, strict=True)
            for unit, tokens in pairs
            if tokens > limit or unit[1] - unit[0] > limit * _CHARACTERS_PER_TOKEN
        ]
        if not long:
            break
        parts = _parts(long, cut, text, counter)
        counted = [[part for pair in pairs for part in parts.get(pair[0], (pair,))] for pairs in counted]
    for section, limit, pairs in zip(sections, limits, counted, strict=True):
        if pairs:
            yield section, limit, [unit for unit, _ in pairs], [tokens for _, tokens in pairs]


def _parts(
    long: Sequence[_Unit], cut: Callable[[str], list[_Unit]], text: str, counter: _Counter
) -> dict[_Unit, list[tuple[_Unit, int]]]:
    """What each of these is cut into, counted in one go."""
    cuts = {unit: [(unit[0] + start, unit[0] + end) for start, end in cut(text[slice(*unit)])] for unit in long}
    counts = iter(counter([text[start:end] for units in cuts.values() for start, end in units]))
    return {unit: [(part, next(counts)) for part in units] for unit, units in cuts.items()}


def _clauses(sentence: str) -> list[_Unit]:
    spans: list[_Unit] = []
    for match in _CLAUSES.finditer(sentence):
        clause = match[0].strip()
        if clause:
            start = match.start() + match[0].index(clause[0])
            spans.append((start, start + len(clause)))
    return spans


def _words(clause: str) -> list[_Unit]:
    """Short words stay together by two and three, which makes fewer to count."""
    spans: list[_Unit] = []
    for match in _WORDS.finditer(clause):
        if spans and match.end() - spans[-1][0] <= _WORDS_TOGETHER:
            spans[-1] = (spans[-1][0], match.end())
        else:
            spans.append(match.span())
    return spans


def _halves(word: str) -> list[_Unit]:
    middle = len(word) // 2
    return [(0, middle), (middle, len(word))] if middle else [(0, len(word))]


def _packed(units: Sequence[_Unit], tokens: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """First and last unit of each chunk: as few chunks as whole units allow, and those of like size."""
    runs = _greedy(units, tokens, limit, limit)
    if 1 < len(runs) <= _BALANCED_CHUNKS:
        low, high = -(-sum(tokens) // len(runs)), limit
        while low < high:  # the smallest size that needs no more chunks
            middle = (low + high) // 2
            if len(_greedy(units, tokens, middle, limit)) <= len(runs):
                high = middle
            else:
                low = middle + 1
        runs = _greedy(units, tokens, high, limit)
    return _without_small_tail(units, tokens, limit, runs)


def _greedy(units: Sequence[_Unit], tokens: Sequence[int], size: int, limit: int) -> list[tuple[int, int]]:
    characters = limit * _CHARACTERS_PER_TOKEN
    runs: list[tuple[int, int]] = []
    first = 0
    total = 0
    for index, count in enumerate(tokens):
        if index > first and (total + count > size or units[index][1] - units[first][0] > characters):
            runs.append((first, index - 1))
            first, total = index, 0
        total += count
    runs.append((first, len(tokens) - 1))
    return runs


def _without_small_tail(
    units: Sequence[_Unit], tokens: Sequence[int], limit: int, runs: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The last chunk takes from the one before it when it is small, as much as makes them most alike."""
    if len(runs) < 2:
        return runs
    (first, middle), (_, last) = runs[-2], runs[-1]
    tail = sum(tokens[middle + 1 : last + 1])
    if tail >= limit * _SMALL_SHARE:
        return runs
    rest = sum(tokens[first : middle + 1])
    characters = limit * _CHARACTERS_PER_TOKEN
    while middle > first and tail + tokens[middle] <= rest - tokens[middle]:
        if units[last][1] - units[middle][0] > characters:
            break
        tail += tokens[middle]
        rest -= tokens[middle]
        middle -= 1
    return [*runs[:-2], (first, middle), (middle + 1, last)]
