"""Taking sessions out and bringing conversations in."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from chat_api.attachments.router import content_disposition
from chat_api.auth.answers import answers
from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.kit.dependencies import Statements
from chat_api.kit.file_names import clean_name
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.scratch import scratch_folder
from chat_api.kit.upload import InvalidUpload, UnsupportedUpload, upload_body
from chat_api.sessions.dependencies import SessionId, TheHints
from chat_api.sessions.errors import SessionNotFound
from chat_api.sessions.service import SessionService
from chat_api.transfer.errors import ImportInProgress, ImportsBusy, ImportTooLarge, InvalidImport
from chat_api.transfer.export import ExportScope, open_export
from chat_api.transfer.formats import ExportFormat
from chat_api.transfer.importer import Importer
from chat_api.transfer.receiving import FIELD, receive_import
from chat_api.transfer.schemas import EXAMPLE_FILE, FullSession, ImportFingerprint, ImportReport, SessionDocument
from chat_api.users.directory import UserDirectory
from shared.problems import NotAuthenticated

router = APIRouter(prefix="/sessions", tags=["Sessions"])

IMPORT_PATH = "/sessions/import"
"""Where a body may be larger than JSON's limit, as a pattern without the prefix of the API."""

FORM_BYTES = 64 * 1024
"""What a form may have around its file."""

_TEXT = {"schema": {"type": "string"}}
_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {
        "model": SessionDocument,
        "description": "The file, as a download.",
        "content": {kind.media_type: _TEXT for kind in (ExportFormat.MARKDOWN, ExportFormat.CSV)},
    }
}
_IMPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "title": "ImportUpload",
                    "required": [FIELD],
                    "additionalProperties": False,
                    "properties": {FIELD: {"type": "string", "format": "binary", "description": "The file."}},
                    "example": {FIELD: orjson.dumps(EXAMPLE_FILE).decode()},
                }
            },
            "application/json": {
                "schema": {
                    "title": "ImportBody",
                    "description": "The file's content itself.",
                    "oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}, "minItems": 1}],
                    "example": EXAMPLE_FILE,
                }
            },
        },
    }
}
# A stream of somebody's conversation is nobody else's to keep, and never a page of ours.
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


async def get_importer(request: Request) -> Importer:
    importer: Importer = request.app.state.importer
    return importer


TheImporter = Annotated[Importer, Depends(get_importer)]


@router.get(
    "/{session_id}/export",
    response_class=Response,
    summary="Export a session",
    responses=_DOWNLOAD | answers(SessionNotFound),
)
async def export_session(
    session_id: SessionId,
    actor: ChatReader,
    database: Statements,
    clock: TheClock,
    kind: Annotated[
        ExportFormat, Query(alias="format", description="`json` has everything, and can be imported again.")
    ] = ExportFormat.JSON,
) -> Response:
    """A download of everything that was said, of any size. Deleted messages are left out; files are named only.

    What is sent while it goes on is not in it. Where the caller is removed meanwhile, the connection breaks off.
    """
    export = await open_export(database, clock, ExportScope(session_id, actor.user_id))
    name = f"{clean_name(export.title.replace('/', ' '))[:100] or 'session'}.{kind.suffix}"
    return StreamingResponse(
        export.pieces(kind),
        media_type=kind.media_type,
        headers=_SAFE_HEADERS | {"Content-Disposition": content_disposition(name, inline=False)},
    )


@router.get(
    "/{session_id}/full",
    response_model=FullSession,
    summary="Read all of a session",
    responses=answers(SessionNotFound),
)
async def get_full_session(
    session_id: SessionId, actor: ChatReader, database: Statements, clock: TheClock, hints: TheHints
) -> Response:
    """The session with its whole history, its runs and its calls of tools, as one document of any size."""
    async with database.unit() as db:
        seen = await SessionService(db, clock, hints).seen_by(session_id, actor.user_id)
    if seen is None:
        raise SessionNotFound
    export = await open_export(database, clock, ExportScope(session_id, actor.user_id))
    return StreamingResponse(
        export.whole(seen[0].model_dump_json().encode()), media_type="application/json", headers=_SAFE_HEADERS
    )


@router.post(
    "/import",
    status_code=201,
    response_model=ImportReport,
    summary="Import conversations",
    responses=answers(
        InvalidImport,
        ImportTooLarge,
        ImportsBusy,
        ImportInProgress,
        UnsupportedUpload,
        InvalidUpload,
        IdempotencyKeyReused,
    ),
    openapi_extra=_IMPORT_BODY,
)
async def import_sessions(
    request: Request,
    actor: ChatWriter,
    settings: TheSettings,
    database: Statements,
    importer: TheImporter,
    key: IdempotencyKey = None,
) -> Response:
    """Make sessions of a file: a session that was exported as JSON, a list of such, or ChatGPT's `conversations.json`.

    In a form, in a part named `file`; or as the body itself. All of the file or nothing. Everything in it becomes the
    caller's own, whoever it was of: nobody else gets access to anything by it. The same conversation again is answered
    with the session that it became.
    """
    async with scratch_folder() as folder:
        received = await receive_import(
            folder,
            request.headers.get("content-type"),
            upload_body(request),
            max_bytes=settings.max_import_bytes,
        )
        async with importer.turn(), importer.staged(received.path) as staging, database.unit() as db:
            person = await UserDirectory(db).find(actor.user_id)
            if person is None:
                raise NotAuthenticated
            # Before the key is looked for: who sends both again waits here, and is told for what.
            await importer.claim(db, person)
            return await create_once(
                db,
                request,
                user_id=actor.user_id,
                key=key,
                body=ImportFingerprint(sha256=received.sha256.hex()),
                create=lambda: importer.store(db, person, staging),
            )
