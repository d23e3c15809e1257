"""What can be wrong with a document or an upload."""

from __future__ import annotations

from chat_api.kit.storage import BytesMissing
from shared.problems import PayloadTooLarge, Problem


class DocumentNotFound(Problem):
    status = 404
    code = "document-not-found"
    title = "Document not found"
    detail = "There is no such document, or its bot is not yours to see."


class DocumentTooLarge(PayloadTooLarge):
    """One file of an upload; a whole upload that is too large is `PayloadTooLarge`."""

    code = "document-too-large"
    title = "The document is too large"
    detail = "Split it into smaller documents."

    @classmethod
    def named(cls, name: str, limit: int) -> DocumentTooLarge:
        return cls(f"{name!r} is larger than {limit} bytes, which is the most that a document may have.")


class DocumentBytesMissing(BytesMissing):
    code = "document-bytes-missing"
    title = "The document's file is gone"
    detail = "The file of this document is no longer in storage. Delete the document and upload it again."


class EmbeddingModelChanged(Problem):
    """Of the agent, passed on: named here for the document of the routes that pass it on."""

    status = 409
    code = "embedding-model-changed"
    title = "The embedding model was changed"
    detail = "The index was made by another embedding model. Run `colloquy embeddings regenerate`."


class EmbedderRateLimited(Problem):
    """Of the agent, passed on like the one above."""

    status = 429
    code = "embedder-rate-limited"
    title = "The embedder's provider limits the rate"
    detail = "The provider of the embedding model takes no more texts for now."
    retry_after = 10
