"""How work on collections of passages fails."""

from __future__ import annotations

from shared.problems import Problem


class IndexUnavailable(Problem):
    status = 503
    code = "index-unavailable"
    title = "The index is unavailable"
    detail = "The database of the index does not answer. Nothing was changed; try again."
    retry_after = 1


class EmbeddingModelChanged(Problem):
    """`stored` and `configured` are names of embedding models with their dimensions, as people read them."""

    status = 409
    code = "embedding-model-changed"
    title = "The index was made by another embedding model"

    def __init__(self, stored: str, configured: str) -> None:
        super().__init__(
            f"The index was made by {stored}, and {configured} is configured. "
            f"Run `colloquy embeddings regenerate`, or configure {stored} again."
        )


class RegenerationUnfinished(EmbeddingModelChanged):
    """The same code, because the same command helps; only the way back does not."""

    def __init__(self, configured: str) -> None:
        Problem.__init__(
            self,
            f"The index is being changed to {configured}, and not all of its vectors are. "
            "Run `colloquy embeddings regenerate` to its end; searches by text work meanwhile.",
        )


class CollectionNotFound(Problem):
    status = 404
    code = "collection-not-found"
    title = "There is no such collection"
    detail = "There is no such collection, or it is not yours."


class DocumentNotFound(Problem):
    status = 404
    code = "document-not-found"
    title = "There is no such document"
    detail = "The collection holds no such document."


class StaleVersion(Problem):
    """What is stored is newer, or was deleted by this version: whoever comes late undoes nothing."""

    status = 409
    code = "stale-version"
    title = "The version is out of date"
    detail = "A newer version of the document is stored, or it was deleted since. Nothing was changed."


class CollectionDeleted(Problem):
    status = 409
    code = "collection-deleted"
    title = "The collection was deleted"
    detail = "The collection was deleted for good, and takes no documents."
