"""How reading a document fails, as the reading process says it."""

from __future__ import annotations

from enum import StrEnum


class Failure(StrEnum):
    UNREADABLE = "unreadable"
    ENCRYPTED = "encrypted"
    WITHOUT_TEXT = "without-text"
    TOO_LONG = "too-long"
    TOO_COMPLEX = "too-complex"


class ExtractionFailed(Exception):
    """`detail` is for the person who uploaded the document. It quotes nothing of it."""

    def __init__(self, failure: Failure, detail: str) -> None:
        self.failure = failure
        self.detail = detail
        super().__init__(detail)
