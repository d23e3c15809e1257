"""One document to its blocks, in this process and without limits on it."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from chat_api.documents.extraction.blocks import BlockWriter, TextBlock
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.failure import ExtractionFailed, Failure


def read_document(path: Path, document_format: DocumentFormat, max_characters: int) -> list[TextBlock]:
    """Raises `ExtractionFailed`, or whatever a library raises on a file that it did not expect.

    Each reader, and the library it needs, is imported when its format first comes.
    """
    writer = BlockWriter(max_characters)
    _read(path, document_format, writer, max_characters)
    blocks = writer.finish()
    if not blocks:
        raise ExtractionFailed(Failure.WITHOUT_TEXT, "The file can be read, but there is no text in it.")
    return blocks


def _read(path: Path, document_format: DocumentFormat, writer: BlockWriter, max_characters: int) -> None:
    # ruff: noqa: PLC0415 - see above
    match document_format:
        case DocumentFormat.PDF:
            from chat_api.documents.extraction import pdf_text

            pdf_text.read(path, writer, max_characters)
        case DocumentFormat.DOCX:
            from chat_api.documents.extraction import docx_text

            docx_text.read(path, writer)
        case DocumentFormat.HTML:
            from chat_api.documents.extraction import html_text

            html_text.read(path, writer)
        case DocumentFormat.MARKDOWN:
            from chat_api.documents.extraction import markdown_text

            markdown_text.read(path, writer)
        case DocumentFormat.TEXT:
            from chat_api.documents.extraction import plain_text

            plain_text.read(path, writer)
        case DocumentFormat.CSV:
            from chat_api.documents.extraction import csv_text

            csv_text.read(path, writer)
        case _:
            assert_never(document_format)
