"""Tables: a paragraph for each row, a line for each value."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from chat_api.documents.extraction.blocks import BlockWriter
from chat_api.documents.extraction.encoding import clean, one_line
from chat_api.documents.extraction.failure import ExtractionFailed, Failure
from chat_api.documents.extraction.plain_text import read_text

MAX_COLUMNS = 1_000
_DELIMITERS = ",;\t|"
_HEADER_CHARACTERS = 100_000


def read(path: Path, writer: BlockWriter) -> None:
    text = clean(read_text(path))
    csv.field_size_limit(len(text) + 1)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), skipinitialspace=True)
    header: list[str] = []
    has_rows = False
    try:
        for row in rows:
            if not any(value.strip() for value in row):
                continue
            if len(row) > MAX_COLUMNS:
                raise ExtractionFailed(
                    Failure.TOO_COMPLEX,
                    f"The table has {len(row):,} columns; up to {MAX_COLUMNS:,} are read. Keep the ones that matter.",
                )
            if not header:
                header = [one_line(name) or f"Column {number}" for number, name in enumerate(row, 1)]
                continue
            has_rows = True
            writer.paragraph(_row(header, row))
    except csv.Error:
        raise ExtractionFailed(Failure.UNREADABLE, f"The table cannot be read near line {rows.line_num:,}.") from None
    if not has_rows:
        writer.paragraph(", ".join(header))


def _row(header: list[str], row: list[str]) -> str:
    lines = []
    for index, value in enumerate(row):
        value = one_line(value)
        if value:
            lines.append(f"{header[index] if index < len(header) else f'Column {index + 1}'}: {value}")
    return "\n".join(lines)


def _delimiter(text: str) -> str:
    """What stands most often in the first line, outside quotes."""
    first = text.lstrip("\n")[:_HEADER_CHARACTERS].partition("\n")[0]
    bare = "".join(first.split('"')[::2])
    return max(_DELIMITERS, key=bare.count)
