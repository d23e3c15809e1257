"""Collects a document's text as it is read, by page and heading, within the limits."""

from __future__ import annotations

from typing import NamedTuple

from chat_api.documents.extraction.encoding import clean, one_line
from chat_api.documents.extraction.failure import ExtractionFailed, Failure

MAX_BLOCK_CHARACTERS = 200_000
MAX_BLOCKS = 100_000
MAX_HEADING_CHARACTERS = 300
HEADING_SEPARATOR = " › "
_GAP = "\n\n"


class TextBlock(NamedTuple):
    """`shared.contracts.knowledge.Block`, for a process that knows no pydantic."""

    text: str
    page: int | None
    heading: str | None


class BlockWriter:
    """Paragraphs under the same headings and on the same page become one block.

    A heading that nothing stands under is text itself: nobody would find it otherwise.
    """

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._characters = 0
        self._heading_characters = 0
        self._blocks: list[TextBlock] = []
        self._paragraphs: list[str] = []
        self._open_characters = 0
        self._page: int | None = None
        self._path: list[tuple[int, str]] = []
        self._heading_is_bare = False

    def page(self, number: int) -> None:
        self._close()
        self._page = number

    def heading(self, level: int, title: str) -> None:
        """Level 1 is the highest. What stands below goes under it until the next one as high."""
        title = one_line(title)
        if not title:
            return
        self._close()
        if self._heading_is_bare and level <= self._path[-1][0]:
            self._write_bare_heading()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, title))
        self._heading_is_bare = True

    def leave_headings(self) -> None:
        """What follows stands under no heading."""
        self._close()
        if self._heading_is_bare:
            self._write_bare_heading()
        self._path.clear()

    def paragraph(self, text: str) -> None:
        """Cleaned here; blank lines inside are kept. Raises `ExtractionFailed` where the limits are passed."""
        text = clean(text).strip("\n").rstrip()
        if not text.strip():
            return
        self._heading_is_bare = False
        for piece in _pieces(text):
            if self._open_characters + len(piece) + len(_GAP) > MAX_BLOCK_CHARACTERS:
                self._close()
            self._count(len(piece) + len(_GAP))
            self._paragraphs.append(piece)
            self._open_characters += len(piece) + len(_GAP)

    def finish(self) -> list[TextBlock]:
        self.leave_headings()
        return self._blocks

    def _write_bare_heading(self) -> None:
        _, title = self._path.pop()
        self._count(len(title) + len(_GAP))
        self._append(title)
        self._heading_is_bare = False

    def _count(self, characters: int) -> None:
        self._characters += characters
        if self._characters - len(_GAP) > self._max_characters:
            raise ExtractionFailed(
                Failure.TOO_LONG,
                f"The document has more than {self._max_characters:,} characters of text. Split it into several.",
            )

    def _close(self) -> None:
        if self._paragraphs:
            self._append(_GAP.join(self._paragraphs))
            self._paragraphs = []
            self._open_characters = 0

    def _append(self, text: str) -> None:
        if len(self._blocks) >= MAX_BLOCKS:
            raise ExtractionFailed(
                Failure.TOO_COMPLEX, f"The document has more than {MAX_BLOCKS:,} headings or pages. Split it."
            )
        heading = self._heading()
        self._heading_characters += len(heading or "")
        if self._heading_characters > self._max_characters // 2 + MAX_HEADING_CHARACTERS:
            raise ExtractionFailed(Failure.TOO_COMPLEX, "The document has more headings than text. Split it.")
        self._blocks.append(TextBlock(text, self._page, heading))

    def _heading(self) -> str | None:
        """The path, or as much of its end as fits: the nearest heading says most."""
        heading = ""
        for _, title in reversed(self._path):
            longer = title + HEADING_SEPARATOR + heading if heading else title
            if len(longer) > MAX_HEADING_CHARACTERS:
                break
            heading = longer
        if not heading and self._path:
            heading = self._path[-1][1][: MAX_HEADING_CHARACTERS - 1].rstrip() + "…"
        return heading or None


def _pieces(text: str) -> list[str]:
    """Text in pieces that a block can hold, cut between lines or words where there are any."""
    limit = MAX_BLOCK_CHARACTERS - len(_GAP)
    pieces: list[str] = []
    start = 0
    while len(text) - start > limit:
        cut = max(text.rfind("\n", start + 1, start + limit), text.rfind(" ", start + limit - 1000, start + limit))
        if cut <= start:
            cut = start + limit
        pieces.append(text[start:cut].strip("\n").rstrip())
        start = cut
    pieces.append(text[start:].strip("\n").rstrip())
    return [piece for piece in pieces if piece]
