"""`/documents` and `/bots/{bot_id}/documents`: what a bot knows, put in, watched, searched and taken out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth.answers import answers
from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.bots.dependencies import BotId, VisibleBot
from chat_api.bots.errors import BotNotFound, NotBotOwner
from chat_api.bots.service import BotService
from chat_api.clients.connection import AgentBrokeOff, AgentUnavailable
from chat_api.documents.dependencies import DocumentId, Documents, OwnedDocument, Passages, TheIntake, VisibleDocument
from chat_api.documents.dependencies import Watch as TheWatch
from chat_api.documents.errors import (
    DocumentNotFound,
    DocumentTooLarge,
    EmbedderRateLimited,
    EmbeddingModelChanged,
)
from chat_api.documents.extraction.errors import EmptyDocument, UnsupportedDocument
from chat_api.documents.intake import Create, Intake
from chat_api.documents.models import Document, DocumentStatus
from chat_api.documents.progress import MayWatch, Watched
from chat_api.documents.repository import DocumentSort
from chat_api.documents.schemas import (
    BotSearch,
    DocumentRead,
    TextCreate,
    UploadedFile,
    UploadFingerprint,
    UploadRead,
)
from chat_api.documents.service import DocumentService
from chat_api.documents.upload import MAX_FILES, document_reader
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.dependencies import Cursor, Limit, Statements
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.pagination import InvalidCursor, Page
from chat_api.kit.scratch import scratch_folder
from chat_api.kit.storage import StorageUnavailable
from chat_api.kit.upload import InvalidUpload, ReceivedFile, UnsupportedUpload, upload_body
from chat_api.plans.errors import DocumentQuotaExceeded, StorageQuotaExceeded
from shared.contracts.knowledge import ChunkPage, SearchAnswer

router = APIRouter(tags=["Documents"])

UPLOAD_PATH = r"/bots/[^/]+/documents"
"""Where a body may be larger than JSON's limit, as a pattern without the prefix of the API."""

_EVENT_STREAM = "text/event-stream"
_SSE_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_SSE_EXAMPLE = (
    'event: document.updated\ndata: {"id": "0198f3a2-…", "status": "processing", "progress": {"done": 4, "total": 12},'
    ' …}\n\nevent: document.updated\ndata: {"id": "0198f3a2-…", "status": "ready", …}\n\n'
)
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "title": "Upload",
                    "required": ["files"],
                    "additionalProperties": False,
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_FILES,
                            "items": {"type": "string", "format": "binary"},
                            "description": "The files, each with its name. A part named `file` is taken as well.",
                        }
                    },
                    "example": {"files": ["# Opening hours\n\nThe harbour closes at ten in the evening.\n"]},
                }
            }
        },
    }
}
_WRITE_ANSWERS = (BotNotFound, NotBotOwner, EmptyDocument, DocumentTooLarge, UnsupportedDocument)
_QUOTA_ANSWERS = (DocumentQuotaExceeded, StorageQuotaExceeded)
_AGENT_ANSWERS = (AgentUnavailable, AgentBrokeOff)


def _stream(text: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {
            "description": f"{text} The data of `document.updated` is a `DocumentRead`, that of `document.deleted`"
            " a `DocumentGone`.",
            "content": {_EVENT_STREAM: {"schema": {"type": "string"}, "example": _SSE_EXAMPLE}},
        }
    }


@router.post(
    "/bots/{bot_id}/documents",
    status_code=202,
    response_model=UploadRead,
    summary="Upload documents",
    openapi_extra=_UPLOAD_BODY,
    responses=answers(
        *_WRITE_ANSWERS,
        *_QUOTA_ANSWERS,
        UnsupportedUpload,
        InvalidUpload,
        IdempotencyKeyReused,
        StorageUnavailable,
    ),
)
async def upload_documents(
    bot_id: BotId,
    request: Request,
    actor: ChatWriter,
    settings: TheSettings,
    database: Statements,
    clock: TheClock,
    intake: TheIntake,
    key: IdempotencyKey = None,
) -> Response:
    """Take in PDF, DOCX, HTML, Markdown, plain text or CSV; the content decides which it is.

    All files or none: one that cannot be taken refuses the upload. The worker reads them and the agent embeds them
    after the answer; `/documents/{id}/events` tells how far that is. Bytes that the bot has already are answered with
    the document that has them, and not embedded again. The answer is the first document, and all under `items`.
    """
    async with database.unit() as db:
        # Before a byte is read. No connection is held while they come; it is asked again when they are stored.
        await BotService(db, clock).owned(bot_id, actor.user_id, lock=False)
    async with scratch_folder() as folder:
        reader = document_reader(folder, max_bytes=settings.max_document_bytes)
        files = await reader.form(request.headers.get("content-type"), upload_body(request))
        return await _accept(request, intake, clock, bot_id, actor.user_id, files, key, UploadRead.of_all)


@router.post(
    "/bots/{bot_id}/documents/text",
    status_code=202,
    response_model=DocumentRead,
    summary="Add a text as a document",
    responses=answers(*_WRITE_ANSWERS, *_QUOTA_ANSWERS, InvalidUpload, IdempotencyKeyReused, StorageUnavailable),
)
async def create_text_document(
    bot_id: BotId,
    body: TextCreate,
    request: Request,
    actor: ChatWriter,
    settings: TheSettings,
    database: Statements,
    clock: TheClock,
    intake: TheIntake,
    key: IdempotencyKey = None,
) -> Response:
    """The same as uploading one file that holds the text."""
    async with database.unit() as db:
        await BotService(db, clock).owned(bot_id, actor.user_id, lock=False)
    async with scratch_folder() as folder:
        reader = document_reader(folder, max_bytes=settings.max_document_bytes)
        files = await reader.text(body.name, body.text)
        return await _accept(request, intake, clock, bot_id, actor.user_id, files, key, _only)


@router.get("/bots/{bot_id}/documents", summary="List a bot's documents", responses=answers(BotNotFound, InvalidCursor))
async def list_documents(
    bot: VisibleBot,
    documents: Documents,
    status: Annotated[DocumentStatus | None, Query(description="Only these.")] = None,
    sort: Annotated[DocumentSort, Query(description="Order of the list.")] = DocumentSort.CREATED_DESC,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DocumentRead]:
    """The documents of a bot that the caller may use, the newest first."""
    return await documents.page(bot.id, status, sort, limit=limit, cursor=cursor)


@router.get(
    "/bots/{bot_id}/documents/events",
    response_class=Response,
    summary="Watch a bot's documents",
    responses={
        **_stream("Every document that is not ready yet, then each one that changes or is added."),
        **answers(BotNotFound),
    },
)
async def watch_bot_documents(
    bot_id: BotId, actor: ChatReader, database: Statements, clock: TheClock, watch: TheWatch
) -> Response:
    """Follow all documents of a bot. Connect first and list them then, and nothing is missed.

    The stream tells the latest state of each document, not every step. After some minutes it ends; a client that
    connects again begins with the present.
    """
    async with database.unit() as db:
        await BotService(db, clock).visible(bot_id, actor.user_id)
    return _events(watch.follow(Watched(bot_id, None), _may_use(database, clock, bot_id, actor.user_id)))


@router.post(
    "/bots/{bot_id}/search",
    summary="Search a bot's documents",
    responses=answers(BotNotFound, EmbeddingModelChanged, EmbedderRateLimited, *_AGENT_ANSWERS),
)
async def search_bot(bot_id: BotId, body: BotSearch, actor: ChatReader, passages: Passages) -> SearchAnswer:
    """Passages with their scores, the best first, without asking a model. Only ready documents are searched."""
    return await passages.search(bot_id, actor.user_id, body)


@router.get("/documents/{document_id}", summary="Read a document", responses=answers(DocumentNotFound))
async def get_document(document: VisibleDocument) -> DocumentRead:
    """One document with its status; while it is `processing`, `progress` says how far that is."""
    return DocumentRead.of(document)


@router.delete(
    "/documents/{document_id}",
    status_code=204,
    summary="Delete a document",
    responses=answers(DocumentNotFound, NotBotOwner),
)
async def delete_document(
    document_id: DocumentId, actor: ChatWriter, database: Statements, clock: TheClock, passages: Passages
) -> None:
    """Take the document out of every list and search at once. Its file and passages go soon after, for good."""
    async with database.unit() as db:
        documents = DocumentService(db, clock)
        document = await documents.owned(document_id, actor.user_id)
        await documents.delete(document)
    await passages.forget(document)


@router.get(
    "/documents/{document_id}/chunks",
    summary="List a document's passages",
    responses=answers(DocumentNotFound, InvalidCursor, *_AGENT_ANSWERS),
)
async def list_chunks(
    document_id: DocumentId, actor: ChatReader, passages: Passages, limit: Limit = 50, cursor: Cursor = None
) -> ChunkPage:
    """What the document was cut into for searching, in its order, with page and characters. Empty until it is ready."""
    return await passages.chunks(document_id, actor.user_id, limit=limit, cursor=cursor)


@router.post(
    "/documents/{document_id}/reindex",
    status_code=202,
    summary="Index a document again",
    responses=answers(DocumentNotFound, NotBotOwner),
)
async def reindex_document(document: OwnedDocument, documents: Documents) -> DocumentRead:
    """Read, cut and embed the document anew. Until that is done, it is searched as it was."""
    return DocumentRead.of(await documents.reindex(document))


@router.get(
    "/documents/{document_id}/events",
    response_class=Response,
    summary="Watch a document",
    responses={
        **_stream("The document as it is, then whenever it changes, until it is ready, failed or deleted."),
        **answers(DocumentNotFound),
    },
)
async def watch_document(
    document_id: DocumentId, actor: ChatReader, database: Statements, clock: TheClock, watch: TheWatch
) -> Response:
    """Follow one document until it is ready or failed. A client that connects again begins with the present."""
    async with database.unit() as db:
        document = await DocumentService(db, clock).visible(document_id, actor.user_id)
    may_watch = _may_use(database, clock, document.bot_id, actor.user_id)
    return _events(watch.follow(Watched(document.bot_id, document.id), may_watch))


def _may_use(database: Database, clock: Clock, bot_id: UUID, user_id: UUID) -> MayWatch:
    async def may_use() -> bool:
        async with database.unit() as db:
            return await BotService(db, clock).is_visible(bot_id, user_id)

    return may_use


async def _accept(
    request: Request,
    intake: Intake,
    clock: Clock,
    bot_id: UUID,
    user_id: UUID,
    files: Sequence[ReceivedFile],
    key: str | None,
    shape: Callable[[list[Document]], BaseModel],
) -> Response:
    fingerprint = UploadFingerprint(files=[UploadedFile(name=file.name, sha256=file.sha256.hex()) for file in files])

    async def commit(db: AsyncSession, create: Create) -> Response:
        async def create_and_read() -> BaseModel:
            return shape(await create())

        await BotService(db, clock).owned(bot_id, user_id)
        return await create_once(
            db, request, user_id=user_id, key=key, body=fingerprint, create=create_and_read, status=202
        )

    return await intake.accept(bot_id, user_id, files, commit)


def _only(documents: list[Document]) -> DocumentRead:
    return DocumentRead.of(documents[0])


def _events(frames: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(frames, media_type=_EVENT_STREAM, headers=_SSE_HEADERS)
