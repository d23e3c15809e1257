"""What can be wrong with a document or an upload."""

from __future__ import annotations

from shared.problems import FieldError, PayloadTooLarge, Problem, ServiceUnavailable, ValidationFailed


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


class UnsupportedUpload(Problem):
    """The body is no `multipart/form-data`."""

    status = 415
    code = "unsupported-media-type"
    title = "The body is not an upload"
    detail = "Send the files as `multipart/form-data`."


class InvalidUpload(ValidationFailed):
    """The form is well-formed, and does not hold what it should."""

    code = "invalid-upload"
    title = "The upload is not valid"
    detail = "Send one to fifty files, each in a part named `files` with its file name."

    def __init__(self, detail: str | None = None, *, field: str = "files") -> None:
        detail = detail or self.detail
        super().__init__(detail, errors=[FieldError(loc=["body", field], msg=detail, type="upload")])


class StorageUnavailable(ServiceUnavailable):
    code = "storage-unavailable"
    title = "The document storage is unavailable"
    detail = "The storage of documents does not answer. Nothing was changed; try again."
    retry_after = 2


class BytesMissing(Problem):
    """The row is there and its bytes are not: only the person can bring them back."""

    status = 410
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
