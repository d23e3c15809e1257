"""What an upload of documents may hold."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from chat_api.documents.errors import DocumentTooLarge
from chat_api.documents.extraction.errors import EmptyDocument, UnsupportedDocument
from chat_api.documents.extraction.formats import detect
from chat_api.kit.upload import UploadReader, UploadRules

MAX_FILES = 50


def document_reader(folder: Path, *, max_bytes: int) -> UploadReader:
    """Raises `DocumentTooLarge`, `EmptyDocument` and `UnsupportedDocument` for a file."""
    return UploadReader(
        folder,
        UploadRules(
            fields=("files", "file"),
            max_files=MAX_FILES,
            max_bytes=max_bytes,
            judge=_content_type,
            too_large=DocumentTooLarge.named,
        ),
    )


def _content_type(content: BinaryIO, name: str) -> str:
    try:
        return detect(content, name).content_type
    # Of many files the answer must say which.
    except EmptyDocument as error:
        raise EmptyDocument(f"{name!r} is empty. {error.detail}") from None
    except UnsupportedDocument as error:
        raise UnsupportedDocument(f"{name!r} cannot be taken. {error.detail}") from None
