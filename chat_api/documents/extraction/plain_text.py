"""Plain text: its first line is its title where a blank line sets it apart."""

from __future__ import annotations

from pathlib import Path

from chat_api.documents.extraction.blocks import BlockWriter
from chat_api.documents.extraction.encoding import REPLACEMENT, clean, decode
from chat_api.documents.extraction.failure import ExtractionFailed, Failure

_MAX_TITLE_CHARACTERS = 200
_MAX_REPLACED_SHARE = 0.01


def read_text(path: Path, declared_encoding: str | None = None) -> str:
    """A text file's characters. Raises `ExtractionFailed` where most of it is no text."""
    text = decode(path.read_bytes(), declared_encoding)
    if text.count(REPLACEMENT) + text.count("\x00") > len(text) * _MAX_REPLACED_SHARE:
        raise ExtractionFailed(
            Failure.UNREADABLE, "The file is no text, or its encoding is not known. Save it as UTF-8."
        )
    return text


def read(path: Path, writer: BlockWriter) -> None:
    text = clean(read_text(path)).strip("\n")
    title, gap, rest = text.partition("\n\n")
    if gap and "\n" not in title and len(title) <= _MAX_TITLE_CHARACTERS and rest.strip():
        writer.heading(1, title)
        text = rest
    writer.paragraph(text)
