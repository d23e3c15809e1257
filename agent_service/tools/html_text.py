"""What a reader sees of an HTML page, as text."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PIECE = 16 * 1024
# An end tag without its start is looked for among all elements that are open: where they are many, the parser takes a
# minute over a page that a browser shows at once. Checked after every piece.
_MOST_OPEN = 1_000
_MOST_ELEMENTS = 100_000
_MOST_TITLE_CHARACTERS = 300
# A line end in the source is a space to a reader.
_WHITE_SPACE = re.compile(r"[ \t\n\r\f]+")
_SILENT = frozenset({
    "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "embed", "applet", "canvas", "audio",
    "video", "map", "datalist", "select",
})  # fmt: skip
_BLOCKS = frozenset({
    "p", "div", "section", "article", "aside", "main", "header", "footer", "nav", "ul", "ol", "dl", "dt", "dd", "table",
    "caption", "blockquote", "pre", "figure", "figcaption", "form", "fieldset", "legend", "address", "details",
    "summary", "hr", "body", "html", "head", "hgroup", "center", "h1", "h2", "h3", "h4", "h5", "h6",
})  # fmt: skip
_LINES = {"br": "\n", "tr": "\n", "option": "\n", "li": "\n- ", "td": " | ", "th": " | "}
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})


def read_html(page: str, *, max_characters: int) -> tuple[str, str, bool]:
    """The title, the text, and whether it is the text of the beginning alone: no more than so many characters."""
    from lxml import etree  # noqa: PLC0415 - a twentieth of a second that a process without pages does without

    reader = _Reader(max_characters)
    # Events and no tree: neither depth nor size of the page shows in memory. Nothing is fetched, no entity is read in.
    parser = etree.HTMLParser(target=reader, encoding="utf-8", no_network=True)
    is_cut = False
    try:
        for start in range(0, len(page), _PIECE):
            parser.feed(page[start : start + _PIECE].replace("\x00", "\ufffd").encode("utf-8", "replace"))
            if is_cut := reader.is_full:
                break
        parser.close()
    except etree.XMLSyntaxError:
        reader.close()  # nothing was in it, or nothing more
    # What the parser held back may be too much as well.
    return reader.title, reader.text, is_cut or reader.is_full


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


class _Reader:
    """Takes the parser's events. Its method names are lxml's."""

    def __init__(self, max_characters: int) -> None:
        self.title = ""
        self._blocks: list[str] = []
        self._characters = 0
        self._max_characters = max_characters
        self._elements = 0
        self._open = 0
        self._words: list[str] = []
        self._in_title = False
        self._silent_tag = ""
        self._silent_depth = 0
        self._preformatted = 0

    @property
    def is_full(self) -> bool:
        return self._characters > self._max_characters or self._open > _MOST_OPEN or self._elements > _MOST_ELEMENTS

    @property
    def text(self) -> str:
        return "\n\n".join(self._blocks)[: self._max_characters]

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        self._open += 1
        if self._silent_depth:
            self._silent_depth += tag == self._silent_tag
        elif tag in _SILENT or (_is_hidden(attributes) and tag not in _VOID | {"body", "html"}):
            self._silent_tag, self._silent_depth = tag, 1
        elif tag == "title":
            self._flush()
            self._in_title = True
        elif tag in _BLOCKS:
            self._flush()
            self._preformatted += tag == "pre"
            if tag in _HEADINGS:
                self._words.append(_HEADINGS[tag])
        elif tag in _LINES:
            self._words.append(_LINES[tag])

    def end(self, tag: str) -> None:
        self._open -= 1
        if self._silent_depth:
            self._silent_depth -= tag == self._silent_tag
        elif tag == "title":
            self._end_title()
        elif tag in _BLOCKS:
            self._flush()
            self._preformatted = max(0, self._preformatted - (tag == "pre"))

    def data(self, text: str) -> None:
        if not self._silent_depth and self._characters <= self._max_characters:
            text = text if self._preformatted else _WHITE_SPACE.sub(" ", text)
            self._characters += len(text)
            self._words.append(text)

    def comment(self, text: str) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        if self._in_title:
            self._end_title()
        self._flush()

    def _end_title(self) -> None:
        words, self._words, self._in_title = "".join(self._words), [], False
        # The first counts: the others are those of pictures within the page.
        self.title = self.title or " ".join(words.split())[:_MOST_TITLE_CHARACTERS]

    def _flush(self) -> None:
        if not self._words or self._in_title:
            return
        words, self._words = "".join(self._words), []
        tidy = str.rstrip if self._preformatted else _tidy
        block = "\n".join(line for line in map(tidy, words.split("\n")) if line)
        if block.strip(" \n|-#"):
            self._blocks.append(block)


def _tidy(line: str) -> str:
    line = " ".join(line.split()).removeprefix("| ")
    return line if line.strip(" |-") else ""
