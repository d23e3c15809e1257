"""DOCX: the paragraphs, tables and notes of a Word document, under its headings."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from chat_api.documents.extraction.blocks import BlockWriter
from chat_api.documents.extraction.failure import ExtractionFailed, Failure

MAX_MEMBERS = 5_000
MAX_UNPACKED_BYTES = 128 * 1024 * 1024
_PIECE = 64 * 1024
_DOCUMENT = "word/document.xml"
_STYLES = "word/styles.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")
_NAMESPACES = (
    "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}",
    "{http://purl.oclc.org/ooxml/wordprocessingml/main}",
)
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING_NAME = re.compile(r"heading ([1-9])", re.IGNORECASE)
_MAX_STYLE_STEPS = 10
# Text that was moved away, and what a program shows in place of what it does not know.
_SILENT = {"moveFrom", "Fallback"}
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "sym": " "}
_DAMAGED = "The file is damaged or incomplete. Open it in its program, save it anew as DOCX, and upload that."


def read(path: Path, writer: BlockWriter) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive)
            names = set(archive.namelist())
            styles = _Styles()
            if _STYLES in names:
                _parse(archive, _STYLES, styles)
            _parse(archive, _DOCUMENT, _Body(writer, styles.levels()))
            writer.leave_headings()
            for name in _NOTES:
                if name in names:
                    _parse(archive, name, _Body(writer, {}))
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError):
        raise ExtractionFailed(Failure.UNREADABLE, _DAMAGED) from None
    except RuntimeError:  # zipfile's word for a member that needs a password
        raise ExtractionFailed(
            Failure.ENCRYPTED, "The file needs a password. Save it without one, and upload that."
        ) from None


def _check(archive: zipfile.ZipFile) -> None:
    """What the archive declares. zipfile reads no member beyond its declared size, so lying does not help."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ExtractionFailed(Failure.TOO_COMPLEX, f"The file holds {len(members):,} parts: far more than a text has.")
    wanted = {_DOCUMENT, _STYLES, *_NOTES}
    unpacked = sum(member.file_size for member in members if member.filename in wanted)
    if unpacked > MAX_UNPACKED_BYTES:
        raise ExtractionFailed(
            Failure.TOO_COMPLEX,
            f"The file unpacks to {unpacked // 2**20:,} MiB of text and marks; "
            f"up to {MAX_UNPACKED_BYTES // 2**20} MiB are read. Split it.",
        )


def _parse(archive: zipfile.ZipFile, name: str, target: Any) -> None:
    from lxml import etree  # noqa: PLC0415 - a twentieth of a second that other formats do without

    parser = etree.XMLParser(
        target=target, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_pis=True
    )
    try:
        with archive.open(name) as member:
            _feed(parser, member)
        parser.close()
    except etree.XMLSyntaxError:
        raise ExtractionFailed(Failure.UNREADABLE, _DAMAGED) from None


def _feed(parser: Any, member: IO[bytes]) -> None:
    while piece := member.read(_PIECE):
        parser.feed(piece)


def _local(tag: str) -> str:
    """The name of one of Word's own elements, or nothing."""
    for namespace in _NAMESPACES:
        if tag.startswith(namespace):
            return tag[len(namespace) :]
    return ""


def _value(attributes: Mapping[str, str]) -> str:
    for namespace in _NAMESPACES:
        if (value := attributes.get(f"{namespace}val")) is not None:
            return value
    return ""


def _is_on(attributes: Mapping[str, str]) -> bool:
    return _value(attributes).lower() not in {"0", "false", "off", "none"}


def _outline_level(value: str) -> int | None:
    """Word counts from 0, and 9 is body text."""
    return int(value) + 1 if value.isdecimal() and int(value) < 9 else None


class _Target:
    """A parser's target that refuses definitions: Word writes none, and entities are how small files grow."""

    def doctype(self, *_: object) -> None:
        raise ExtractionFailed(Failure.UNREADABLE, "The file defines entities of its own, which no Word document does.")

    def comment(self, _: str) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        """Nothing is built."""


class _Styles(_Target):
    """Which styles are headings, by their built-in names, their outline level, or the style they are based on."""

    def __init__(self) -> None:
        self._own: dict[str, int] = {}
        self._bases: dict[str, str] = {}
        self._style = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = _local(tag)
        if name == "style":
            self._style = next((value for key, value in attributes.items() if key.endswith("}styleId")), "")
        elif name == "basedOn":
            self._bases[self._style] = _value(attributes)
        elif name == "outlineLvl":
            level = _outline_level(_value(attributes))
            if level is not None:
                self._own.setdefault(self._style, level)
        elif name == "name" and self._style:
            if match := _HEADING_NAME.fullmatch(_value(attributes)):
                self._own[self._style] = int(match[1])
            elif _value(attributes).lower() == "title":
                self._own[self._style] = 0

    def end(self, tag: str) -> None:
        if _local(tag) == "style":
            self._style = ""

    def data(self, _: str) -> None:
        """Styles have no text."""

    def levels(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for style in {*self._own, *self._bases}:
            base = style
            for _ in range(_MAX_STYLE_STEPS):
                if base in self._own:
                    found[style] = self._own[base]
                    break
                base = self._bases.get(base, "")
        return found


class _Body(_Target):
    """Paragraphs as they end. A table is one paragraph, a line for each row; what is in a text box comes first."""

    def __init__(self, writer: BlockWriter, styles: Mapping[str, int]) -> None:
        self._writer = writer
        self._styles = styles
        self._open: list[list[str]] = []
        self._levels: list[int | None] = []
        self._items: list[bool] = []
        self._in_text = False
        self._run_is_hidden = False
        self._silent = 0
        self._tables = 0
        self._rows: list[str] = []
        self._cells: list[str] = []
        self._cell: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = "Fallback" if tag == _FALLBACK else _local(tag)
        if name in _SILENT:
            self._silent += 1
        elif self._silent or not name:
            return
        elif name == "p":
            self._open.append([])
            self._levels.append(None)
            self._items.append(False)
        elif name == "tbl":
            self._tables += 1
        elif self._open:
            self._start_inside(name, attributes)

    def _start_inside(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "t":
            self._in_text = not self._run_is_hidden
        elif name == "r":
            self._run_is_hidden = False
        elif name == "vanish":
            self._run_is_hidden = _is_on(attributes)
        elif name in _SIGNS:
            self._open[-1].append(_SIGNS[name])
        elif name == "pStyle":
            self._levels[-1] = self._styles.get(_value(attributes), self._levels[-1])
        elif name == "outlineLvl":
            self._levels[-1] = _outline_level(_value(attributes))
        elif name == "numPr":
            self._items[-1] = True

    def end(self, tag: str) -> None:
        name = "Fallback" if tag == _FALLBACK else _local(tag)
        if name in _SILENT:
            self._silent -= 1
        elif self._silent or not name:
            return
        elif name == "t":
            self._in_text = False
        elif name == "p":
            self._end_paragraph("".join(self._open.pop()).strip(), self._levels.pop(), is_item=self._items.pop())
        elif self._tables and name in {"tc", "tr", "tbl"}:
            self._end_of_table(name)

    def data(self, text: str) -> None:
        if self._in_text and not self._silent:
            self._open[-1].append(text)

    def _end_paragraph(self, text: str, level: int | None, *, is_item: bool) -> None:
        self._run_is_hidden = False
        if not text:
            return
        if self._tables:
            self._cell.append(text)
        elif level is not None:
            self._writer.heading(level, text)
        else:
            self._writer.paragraph(f"- {text}" if is_item else text)

    def _end_of_table(self, name: str) -> None:
        """A table inside a cell is read as part of that cell."""
        if name == "tbl":
            self._tables -= 1
            if self._tables == 0:
                self._writer.paragraph("\n".join(self._rows))
                self._rows = []
        elif self._tables > 1:
            return
        elif name == "tc":
            self._cells.append(" ".join(" ".join(self._cell).split()))
            self._cell = []
        else:
            if any(self._cells):
                self._rows.append(" | ".join(self._cells))
            self._cells = []
