"""Collections of the agent service: documents cut into passages, embedded and searched.

A document is put as a whole and changes in one step: a search sees its old passages or its new ones. Puts and
deletes carry a version, and one that is older than what is stored does nothing, so a late worker undoes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.problems import ProblemDocument
from shared.schema import WriteSchema

MAX_TOP_K = 200
MAX_EXCLUDED = 1_000
"""Documents that a search can be told to leave out. They wait to be removed for seconds: hardly ever are there more."""
MAX_COLLECTIONS = 20
"""That one search goes through."""
MAX_VERSION = 2**53 - 1
"""What any JSON reader keeps exact."""

DocumentVersion = Annotated[
    int, Field(ge=1, le=MAX_VERSION, description="Rises with each change; what comes with an older one is refused.")
]


class SearchMode(StrEnum):
    """`dense` compares meanings, `text` ranks words by BM25, `hybrid` fuses both by score."""

    HYBRID = "hybrid"
    DENSE = "dense"
    TEXT = "text"


class Block(WriteSchema):
    """A stretch of a document under one heading and on one page, in reading order.

    The document's text is its blocks joined by a blank line: character ranges of passages count in that.
    """

    text: str = Field(min_length=1, max_length=200_000)
    page: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Counted from 1; null where the format has no pages."
    )
    heading: str | None = Field(default=None, min_length=1, max_length=300, description="The headings above, joined.")


class DocumentPut(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "harbour.md",
                "version": 1,
                "blocks": [{"text": "The harbour closes at ten in the evening.", "heading": "Opening hours"}],
            }
        },
    )

    name: str = Field(min_length=1, max_length=255)
    version: DocumentVersion
    blocks: list[Block] = Field(max_length=100_000)


class IndexProgress(BaseModel):
    """How many of the document's passages have a vector already."""

    type: Literal["progress"] = "progress"
    done: int = Field(ge=0)
    total: int = Field(ge=0)


class IndexedDocument(BaseModel):
    """The document is searched as it was put. `embedded` of its passages had to be; the other texts were known."""

    type: Literal["indexed"] = "indexed"
    document_id: UUID
    version: int
    chunk_count: int = Field(ge=0)
    embedded: int = Field(ge=0)


class IndexFailed(BaseModel):
    """Nothing changed. `retry_after` is set where trying again may help, in seconds."""

    type: Literal["error"] = "error"
    problem: ProblemDocument
    retry_after: int | None = None


IndexEvent = Annotated[IndexProgress | IndexedDocument | IndexFailed, Field(discriminator="type")]


class RetrievalOptions(WriteSchema):
    """How passages are found. `min_score` is compared with the score of the mode, which lies between 0 and 1."""

    mode: SearchMode = SearchMode.HYBRID
    top_k: int = Field(default=5, ge=1, le=MAX_TOP_K, strict=True)
    min_score: float = Field(default=0.0, ge=0, le=1, strict=True)
    exclude_documents: list[UUID] = Field(
        default_factory=list, max_length=MAX_EXCLUDED, description="Documents that are being deleted."
    )


class SearchRequest(RetrievalOptions):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "collections": ["0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"],
                "query": "When does the harbour close?",
                "top_k": 5,
                "mode": "hybrid",
            }
        },
    )

    collections: list[UUID] = Field(min_length=1, max_length=MAX_COLLECTIONS)
    query: str = Field(min_length=1, max_length=10_000)


class Passage(BaseModel):
    """One chunk that was found. `start` and `end` are characters of the document's text, `end` excluded."""

    chunk_id: UUID
    collection_id: UUID
    document_id: UUID
    document_name: str
    position: int = Field(ge=0, description="0, 1, 2 … within the document.")
    text: str
    heading: str | None
    page: int | None
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    score: float
    dense_score: float | None = Field(description="Cosine similarity; null where the part did not find it.")
    text_score: float | None = Field(description="BM25; null where the part did not find it.")


class SearchAnswer(BaseModel):
    """Passages, the best first."""

    passages: list[Passage]


class ChunkRead(BaseModel):
    """A passage as it is stored."""

    chunk_id: UUID
    position: int
    text: str
    heading: str | None
    page: int | None
    start: int
    end: int


class ChunkPage(BaseModel):
    items: list[ChunkRead]
    next_cursor: str | None


class CollectionState(BaseModel):
    """`embedding_model` made its vectors; `chunk_count` is what a search goes through."""

    collection_id: UUID
    document_count: int
    chunk_count: int
    embedding_model: str


class RegenerationStep(BaseModel):
    """How far the change to the configured embedding model has come. `done == total`: it is over."""

    done: int
    total: int
    embedding_model: str


class CitationData(BaseModel):
    """A passage that an answer stands on, as worked out from the passages that the model was given."""

    index: int = Field(ge=1, description="The number that the model knew it by.")
    document_id: UUID
    document_name: str
    chunk_id: UUID
    page: int | None
    score: float
    snippet: str
