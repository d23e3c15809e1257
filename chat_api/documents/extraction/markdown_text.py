"""Markdown as its author wrote it, cut at its headings.

Models and people read the marks of Markdown well, so only the lines matter: which of them are headings. Their grammar
is CommonMark's, as far as a heading at the top level goes; one inside a list or a quotation is text.
"""

from __future__ import annotations

import re
from pathlib import Path

from chat_api.documents.extraction.blocks import BlockWriter
from chat_api.documents.extraction.encoding import clean
from chat_api.documents.extraction.plain_text import read_text

# Patterns for single lines, and none that can begin a second time inside its own match: time stays linear.
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_NO_PARAGRAPH = re.compile(r" {4}|\t| {0,3}(?:>|[-+*][ \t]|\d{1,9}[.)][ \t]|<)")
# Pictures inside the text: no words, but many characters.
_INLINE_PICTURE = re.compile(r"\(data:[^()\s]*\)")
_FRONT_MATTER_TITLE = re.compile(r"title:[ \t]*(\S.*)")
_FRONT_MATTER_LINES = 200
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_MARK = re.compile(r"\\([!-/:-@\[-`{-~])|\*+|`+|(?<!\w)_+|_+(?!\w)")
_MAX_TITLE_CHARACTERS = 1_000
_HIDDEN = (("<!--", "-->"), ("<script", "</script>"), ("<style", "</style>"))


def read(path: Path, writer: BlockWriter) -> None:
    text = _INLINE_PICTURE.sub("()", clean(read_text(path)).strip("\n"))
    lines = text.split("\n")
    reader = _Reader(writer)
    for line in lines[_front_matter(lines, writer) :]:
        reader.read(line)
    reader.end_paragraph()


def _front_matter(lines: list[str], writer: BlockWriter) -> int:
    """How many lines tools have put before the text. A title among them is the highest heading."""
    if lines[0] != "---":
        return 0
    end = next((at for at, line in enumerate(lines[1:_FRONT_MATTER_LINES], 1) if line in {"---", "..."}), None)
    if end is None:
        return 0
    for line in lines[1:end]:
        if title := _FRONT_MATTER_TITLE.fullmatch(line):
            writer.heading(0, title[1].strip().strip("\"'"))
    return end + 1


class _Reader:
    """Takes one line after the other."""

    def __init__(self, writer: BlockWriter) -> None:
        self._writer = writer
        self._lines: list[str] = []
        self._fence = ""
        self._hidden_until = ""
        self._in_paragraph = False

    def read(self, line: str) -> None:
        if self._fence:
            self._lines.append(line)
            closing = _FENCE.fullmatch(line)
            if closing is not None and closing[1].startswith(self._fence) and not closing[2].strip():
                self._fence = ""
        elif self._hidden_until:
            if self._hidden_until in line.lower():
                self._hidden_until = ""
        elif not line.strip():
            self._lines.append("")
            self._in_paragraph = False
        elif not self._begins_hidden(line) and not self._is_heading(line):
            self._lines.append(line)
            self._open_fence(line)

    def end_paragraph(self) -> None:
        self._writer.paragraph("\n".join(self._lines))
        self._lines = []
        self._in_paragraph = False

    def _begins_hidden(self, line: str) -> bool:
        start = line.lstrip()[:8].lower()
        for opening, closing in _HIDDEN:
            if start.startswith(opening):
                if closing not in line.lower():
                    self._hidden_until = closing
                return True
        return False

    def _is_heading(self, line: str) -> bool:
        if heading := _HEADING.fullmatch(line):
            self.end_paragraph()
            self._writer.heading(len(heading[1]), _words(heading[2] or ""))
            return True
        if self._in_paragraph and (underline := _UNDERLINE.fullmatch(line)):
            title = self._lines.pop()
            self.end_paragraph()
            self._writer.heading(1 if underline[1][0] == "=" else 2, _words(title))
            return True
        return False

    def _open_fence(self, line: str) -> None:
        """Also notes whether the line can be the title that the next one underlines."""
        fence = _FENCE.fullmatch(line)
        if fence is not None and not (fence[1][0] == "`" and "`" in fence[2]):
            self._fence = fence[1]
        # Only the first line of a paragraph: a rule under longer prose is mostly meant as a rule.
        alone = len(self._lines) < 2 or not self._lines[-2]
        self._in_paragraph = fence is None and alone and _NO_PARAGRAPH.match(line) is None


def _words(title: str) -> str:
    """What a reader sees of a heading: `The [dock](x) *now* ##` is `The dock now`."""
    title = title[:_MAX_TITLE_CHARACTERS].strip()
    closing = title.rstrip("#")
    if closing != title and (not closing or closing[-1] in " \t"):
        title = closing
    return _MARK.sub(lambda mark: mark[1] or "", _LINK.sub(r"\1", title))
