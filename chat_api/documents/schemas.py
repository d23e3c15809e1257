"""What documents look like on the wire."""

from __future__ import annotations

from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from chat_api.documents.models import Document, DocumentStatus
from chat_api.kit.file_names import LONGEST_NAME
from shared.contracts.knowledge import MAX_TOP_K, SearchMode
from shared.problems import ProblemDocument
from shared.schema import ReadSchema, Timestamp, WriteSchema

LONGEST_TEXT = 250_000
"""Characters. Whole, and escaped as JSON usually is, it stays below the largest body."""

_EXAMPLE_ID = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"
_EXAMPLE: dict[str, Any] = {
    "id": _EXAMPLE_ID,
    "bot_id": _EXAMPLE_ID,
    "name": "harbour.pdf",
    "content_type": "application/pdf",
    "size_bytes": 48213,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "status": "ready",
    "progress": {"done": 12, "total": 12},
    "chunk_count": 12,
    "error": None,
    "version": 1,
    "created_at": "2026-01-31T09:29:00.000000Z",
    "indexed_at": "2026-01-31T09:29:04.000000Z",
}


class IndexingProgress(ReadSchema):
    """Passages that have a vector, of those that need one; both 0 until the text was read."""

    done: int
    total: int


class DocumentRead(ReadSchema):
    """`error` says why it `failed`, or what is in the way of one that is still tried again."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: UUID
    bot_id: UUID
    name: str
    content_type: str = Field(description="By what is in the file, not by what was said of it.")
    size_bytes: int
    sha256: str = Field(description="Of the file's bytes, hexadecimal.")
    status: DocumentStatus
    progress: IndexingProgress
    chunk_count: int = Field(description="Passages that are searched: of an earlier version until this one is ready.")
    error: ProblemDocument | None
    version: int = Field(description="Rises when the document is indexed again.")
    created_at: Timestamp
    indexed_at: Timestamp | None

    @classmethod
    def of(cls, document: Document) -> Self:
        return cls(**_fields(document))


class UploadRead(DocumentRead):
    """The first document, and under `items` all of them, in the order of the files.

    A file whose bytes the bot has already is answered with the document that has them.
    """

    model_config = ConfigDict(json_schema_extra={"example": {**_EXAMPLE, "items": [_EXAMPLE]}})

    items: list[DocumentRead]

    @classmethod
    def of_all(cls, documents: list[Document]) -> Self:
        return cls(**_fields(documents[0]), items=[DocumentRead.of(document) for document in documents])


def _fields(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "bot_id": document.bot_id,
        "name": document.name,
        "content_type": document.content_type,
        "size_bytes": document.size_bytes,
        "sha256": document.sha256.hex(),
        "status": document.status,
        "progress": IndexingProgress(done=document.progress_done, total=document.progress_total),
        "chunk_count": document.chunk_count,
        "error": document.error,
        "version": document.version,
        "created_at": document.created_at,
        "indexed_at": document.indexed_at,
    }


class TextCreate(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "harbour.md", "text": "# Opening hours\n\nThe harbour closes at ten in the evening."}
        },
    )

    name: str = Field(min_length=1, max_length=LONGEST_NAME, description="Its ending helps to tell Markdown from CSV.")
    text: str = Field(min_length=1, max_length=LONGEST_TEXT)


class BotSearch(WriteSchema):
    """What is left out is as the bot's configuration has it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"query": "When does the harbour close?", "top_k": 5, "mode": "hybrid"}},
    )

    query: str = Field(min_length=1, max_length=10_000)
    top_k: int | None = Field(default=None, ge=1, le=MAX_TOP_K, strict=True, description="Passages at most.")
    mode: SearchMode | None = None
    min_score: float | None = Field(
        default=None, ge=0, le=1, strict=True, description="Passages that score less are left out."
    )


class DocumentGone(BaseModel):
    """Data of `document.deleted`."""

    id: UUID
    bot_id: UUID


class UploadedFile(BaseModel):
    """What makes two files of an upload the same, for `Idempotency-Key`."""

    name: str
    sha256: str


class UploadFingerprint(BaseModel):
    files: list[UploadedFile]
