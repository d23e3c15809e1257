"""What can be wrong with a document's file."""

from __future__ import annotations

from typing import assert_never

from chat_api.documents.extraction.failure import Failure
from shared.problems import Problem


class UnsupportedDocument(Problem):
    status = 415
    code = "unsupported-document"
    title = "The file is of no format that is read here"
    detail = "PDF, DOCX, HTML, Markdown, plain text and CSV are read. The content decides, not the file's name."


class EmptyDocument(Problem):
    status = 422
    code = "empty-document"
    title = "The file is empty"
    detail = "There is nothing in the file. Was it saved, and uploaded as a whole?"


class UnreadableDocument(Problem):
    """The file cannot be turned into text. Trying again with the same bytes does not help."""

    status = 422
    code = "document-unreadable"
    title = "The document cannot be read"
    detail = "The file is damaged or incomplete. Open it where it was made, save it anew, and upload that."


class DocumentEncrypted(UnreadableDocument):
    code = "document-encrypted"
    title = "The document is locked"
    detail = "The file needs a password. Save it without one, and upload that."


class DocumentWithoutText(UnreadableDocument):
    code = "document-without-text"
    title = "The document has no text"
    detail = "No text was found in the file."


class DocumentTooLong(UnreadableDocument):
    code = "document-too-long"
    title = "The document is too long"
    detail = "The document has more text than one document may have. Split it."


class DocumentTooComplex(UnreadableDocument):
    code = "document-too-complex"
    title = "The document is too complex"
    detail = "Reading the file takes more time or memory than one document may take. Save it in a simpler form."


def problem_of(failure: Failure, detail: str) -> UnreadableDocument:
    match failure:
        case Failure.UNREADABLE:
            return UnreadableDocument(detail)
        case Failure.ENCRYPTED:
            return DocumentEncrypted(detail)
        case Failure.WITHOUT_TEXT:
            return DocumentWithoutText(detail)
        case Failure.TOO_LONG:
            return DocumentTooLong(detail)
        case Failure.TOO_COMPLEX:
            return DocumentTooComplex(detail)
        case _:
            assert_never(failure)
