"""PDF: the text of each page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from chat_api.documents.extraction.blocks import BlockWriter
from chat_api.documents.extraction.failure import ExtractionFailed, Failure

MAX_PAGES = 10_000
_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_SECURITY_ERROR = 5  # FPDF_ERR_SECURITY
_LETTERS_PER_PAGE = 3
_LINE_ITEM = re.compile(r"(?:[•‣◦▪■●○–—*-]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s")
_SENTENCE_ENDS = (".", "!", "?", ":", ";", "。", "”", '"')
_LINE_HYPHEN = "\ufffe"  # how PDFium marks a hyphen that only divides a word between two lines
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_SCANNED = "Its pages are probably scanned or drawn: run text recognition (OCR) over the file, and upload the result."


def read(path: Path, writer: BlockWriter, max_characters: int) -> None:
    import pypdfium2  # noqa: PLC0415 - a seventh of a second that other formats do without

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise _failure_to_open(error) from None
    with document:
        pages = len(document)
        if pages > MAX_PAGES:
            raise ExtractionFailed(
                Failure.TOO_LONG, f"The document has {pages:,} pages; up to {MAX_PAGES:,} are read. Split it."
            )
        letters: set[str] = set()
        count = 0
        for number in range(1, pages + 1):
            try:
                text = _page_text(document, number, max_characters)
            except pypdfium2.PdfiumError:
                raise ExtractionFailed(
                    Failure.UNREADABLE,
                    f"Page {number:,} of {pages:,} is damaged. Save the document anew, and upload that.",
                ) from None
            found = [character for character in text if character.isalnum()]
            letters.update(found)
            count += len(found)
            writer.page(number)
            writer.paragraph(_reflowed(text))
        _check_legible(pages, count, letters)


def _failure_to_open(error: Any) -> ExtractionFailed:
    code = getattr(error, "err_code", None)
    if code in {_PASSWORD_ERROR, _SECURITY_ERROR}:
        return ExtractionFailed(
            Failure.ENCRYPTED, "The PDF is locked with a password. Save it without one, and upload that."
        )
    return ExtractionFailed(
        Failure.UNREADABLE, "The PDF is damaged or incomplete. Open it, save or print it anew as PDF, and upload that."
    )


def _page_text(document: Any, number: int, max_characters: int) -> str:
    page = document[number - 1]
    try:
        text_page = page.get_textpage()
        try:
            if text_page.count_chars() > max_characters:
                raise ExtractionFailed(
                    Failure.TOO_LONG, f"Page {number:,} alone has more than {max_characters:,} characters."
                )
            text: str = text_page.get_text_range()
        finally:
            text_page.close()
    finally:
        page.close()
    return text.translate(_LIGATURES).replace("\r\n", "\n").replace(_LINE_HYPHEN + "\n", "").replace(_LINE_HYPHEN, "")


def _check_legible(pages: int, count: int, letters: set[str]) -> None:
    """Scans with page numbers alone, and fonts that name each of their glyphs alike, have characters but no words."""
    if count == 0:
        raise ExtractionFailed(Failure.WITHOUT_TEXT, f"The PDF has {pages:,} pages, but no text. {_SCANNED}")
    if pages > 1 and (count < pages * _LETTERS_PER_PAGE or len(letters) == 1):
        raise ExtractionFailed(
            Failure.WITHOUT_TEXT,
            f"The PDF has {pages:,} pages, but only {count:,} legible characters, {len(letters):,} of them different. "
            f"{_SCANNED}",
        )


def _reflowed(text: str) -> str:
    """Lines of one paragraph joined. A page knows lines only: a short one, or an item after it, ends a paragraph."""
    lines = [line.strip() for line in text.split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    if not lengths:
        return ""
    full = lengths[len(lengths) * 9 // 10]
    parts: list[str] = []
    previous = ""
    for line in lines:
        if not line:
            continue
        if previous:
            parts.append("\n" if _ends_paragraph(previous, line, full) else " ")
        parts.append(line)
        previous = line
    return "".join(parts)


def _ends_paragraph(line: str, following: str, full: int) -> bool:
    return (
        len(line) < full * 0.6
        or (line.endswith(_SENTENCE_ENDS) and len(line) < full * 0.85)
        or _LINE_ITEM.match(following) is not None
    )
