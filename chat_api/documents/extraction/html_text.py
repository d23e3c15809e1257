"""HTML: what a reader sees, under its headings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from chat_api.documents.extraction.blocks import BlockWriter
from chat_api.documents.extraction.plain_text import read_text

_PIECE = 64 * 1024
_DECLARED_ENCODING = re.compile(rb"<meta\b[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.\-]{2,40})", re.IGNORECASE)
# A line end in the source is a space to a reader.
_WHITE_SPACE = re.compile(r"[ \t\n\r\f]+")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SILENT = frozenset({
    "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "embed", "applet", "canvas", "audio",
    "video", "map", "datalist", "select",
})  # fmt: skip
_PARAGRAPHS = frozenset({
    "p", "div", "section", "article", "aside", "main", "header", "footer", "nav", "ul", "ol", "dl", "dt", "dd", "table",
    "caption", "blockquote", "pre", "figure", "figcaption", "form", "fieldset", "legend", "address", "details",
    "summary", "hr", "body", "html", "head", "hgroup", "center",
})  # fmt: skip
_LINES = frozenset({"br", "tr", "li", "option"})
_CELLS = frozenset({"td", "th"})
_VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})


def read(path: Path, writer: BlockWriter) -> None:
    from lxml import etree  # noqa: PLC0415 - a twentieth of a second that other formats do without

    with path.open("rb") as file:
        declared = _DECLARED_ENCODING.search(file.read(4096))
    text = read_text(path, declared[1].decode() if declared else None)
    # Events, no tree: neither depth nor size of the page shows in memory. NUL would end it.
    parser = etree.HTMLParser(target=_Page(writer), encoding="utf-8")
    for start in range(0, len(text), _PIECE):
        parser.feed(text[start : start + _PIECE].replace("\x00", "\ufffd").encode("utf-8", "replace"))
    parser.close()


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    if not attributes:
        return False
    style = attributes.get("style", "")[:1000].lower().replace(" ", "")
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden", "").lower() == "true"
        or "display:none" in style
        or "visibility:hidden" in style
    )


class _Page:
    """Takes the parser's events. Its method names are lxml's."""

    def __init__(self, writer: BlockWriter) -> None:
        self._writer = writer
        self._text: list[str] = []
        self._title: str | None = None
        self._silent_tag = ""
        self._silent_depth = 0
        self._heading: str | None = None
        self._preformatted = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._silent_depth:
            self._silent_depth += tag == self._silent_tag
        elif tag in _SILENT or (_is_hidden(attributes) and tag not in _VOID | {"body", "html"}):
            self._silent_tag, self._silent_depth = tag, 1
        elif tag in _HEADINGS or tag == "title":
            self._flush()
            self._heading = tag
        elif tag in _PARAGRAPHS:
            self._flush()
            self._preformatted += tag == "pre"
        elif tag in _LINES:
            self._text.append("\n- " if tag == "li" else "\n")
        elif tag in _CELLS:
            self._text.append(" | ")

    def end(self, tag: str) -> None:
        if self._silent_depth:
            self._silent_depth -= tag == self._silent_tag
        elif self._heading is not None and tag == self._heading:
            self._end_heading()
        elif tag in _PARAGRAPHS:
            self._flush()
            self._preformatted = max(0, self._preformatted - (tag == "pre"))

    def data(self, text: str) -> None:
        if not self._silent_depth:
            self._text.append(text if self._preformatted else _WHITE_SPACE.sub(" ", text))

    def comment(self, text: str) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        if self._heading is not None:
            self._end_heading()
        self._flush()

    def _end_heading(self) -> None:
        tag, words = self._heading, "".join(self._text)
        self._text, self._heading = [], None
        if tag == "title":
            self._title = words
        elif tag is not None:
            # The page's title and its first heading mostly say the same.
            if _HEADINGS[tag] == 1:
                self._title = None
            self._write_title()
            self._writer.heading(_HEADINGS[tag], words)

    def _write_title(self) -> None:
        if self._title is not None:
            self._writer.heading(1, self._title)
            self._title = None

    def _flush(self) -> None:
        if not self._text or self._heading is not None:
            return
        words = "".join(self._text)
        self._text = []
        if words.strip(" \n|-"):
            self._write_title()
            tidy = str.rstrip if self._preformatted else _tidy
            self._writer.paragraph("\n".join(line for line in map(tidy, words.split("\n")) if line))


def _tidy(line: str) -> str:
    line = " ".join(line.split()).removeprefix("| ")
    return line if line.strip(" |-") else ""
