"""What is shown of a text that was found: a line of it, in parts that say whether they matched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from chat_api.search.statements import END_MARK, START_MARK

CHARACTERS = 240
_BEFORE = 60
"""Characters before the first match."""
_MOST_TOGETHER = 40
_CUT = "…"
# As in the migration that indexes them.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Part:
    text: str
    matched: bool


def parts_of(
    excerpt: str, marked: str, *, begins_inside: bool = False, ends_inside: bool = False, also: list[str] | None = None
) -> list[Part]:
    """One line of at most 240 characters, there where most of what was asked for is first found together, in parts.

    `marked` is the excerpt with marks around what matched, and as long without them. Of the words in `also`, those in
    writing without spaces are looked for as they stand: it is not marked. Where it was cut out of more, whole words
    are left, and a mark.
    """
    ranges = sorted({*_marked_ranges(excerpt, marked), *_plain_ranges(excerpt, also or [])})
    start, end = _window(excerpt, _best_place(excerpt, ranges))
    parts = [Part(_CUT, False)] if begins_inside or start > 0 else []
    at = start
    for first, last in ranges:
        if first < at or last > end:
            continue
        parts += [Part(excerpt[at:first], False), Part(excerpt[first:last], True)]
        at = last
    parts.append(Part(excerpt[at:end], False))
    if ends_inside or end < len(excerpt):
        parts.append(Part(_CUT, False))
    return _one_line(parts)


def _marked_ranges(excerpt: str, marked: str) -> Iterator[tuple[int, int]]:
    if len(marked) - marked.count(START_MARK) - marked.count(END_MARK) != len(excerpt):
        return
    at, start = 0, 0
    for character in marked:
        if character == START_MARK:
            start = at
        elif character == END_MARK:
            yield start, at
        else:
            at += 1


def _plain_ranges(excerpt: str, words: list[str]) -> Iterator[tuple[int, int]]:
    for word in filter(_UNSPACED.search, words):
        for match in re.finditer(re.escape(word), excerpt, re.IGNORECASE):
            yield match.span()


def _best_place(excerpt: str, ranges: list[tuple[int, int]]) -> int:
    best, place = 0, 0
    for number, (first, _) in enumerate(ranges):
        together = set()
        for start, end in ranges[number : number + _MOST_TOGETHER]:
            if end - first > CHARACTERS - _BEFORE:
                break
            together.add(excerpt[start:end].lower())
        # As late as all of it still follows, so that it stands in the middle.
        if len(together) > best or (len(together) == best > 1 and first - place < CHARACTERS):
            best, place = len(together), first
    return place


def _window(excerpt: str, match: int) -> tuple[int, int]:
    """Where to cut: between words, if there are any near."""
    start = max(0, match - _BEFORE)
    if start > 0:
        # A text without spaces is one word, of which a part says more than nothing.
        start = excerpt.find(" ", start, match) + 1 or start
    end = min(len(excerpt), start + CHARACTERS)
    if end < len(excerpt):
        end = max(excerpt.rfind(" ", match + 1, end), 0) or end
    return start, end


def _one_line(parts: list[Part]) -> list[Part]:
    """White space between and around words becomes one space, and none at the ends; empty parts are left out."""
    lined: list[Part] = []
    after_space = True
    for part in parts:
        text = _SPACES.sub(" ", part.text)
        if after_space:
            text = text.lstrip()
        if text:
            after_space = text.endswith(" ")
            if lined and lined[-1].matched == part.matched:
                text = lined.pop().text + text
            lined.append(Part(text, part.matched))
    if lined and after_space:
        lined[-1] = Part(lined[-1].text.rstrip(), lined[-1].matched)
    return [part for part in lined if part.text]
