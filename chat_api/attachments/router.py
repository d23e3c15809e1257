"""`/attachments`: files to name in a message."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.attachments.errors import AttachmentNotFound, AttachmentTooLarge, EmptyAttachment
from chat_api.attachments.media_types import OCTET_STREAM, media_type, shown_image
from chat_api.attachments.schemas import AttachmentFingerprint, AttachmentRead
from chat_api.attachments.service import AttachmentService, Create
from chat_api.auth.answers import answers
from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.kit.dependencies import Statements
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.scratch import scratch_folder
from chat_api.kit.storage import BytesMissing, Storage, StorageUnavailable
from chat_api.kit.upload import InvalidUpload, UnsupportedUpload, UploadReader, UploadRules, upload_body
from chat_api.plans.dependencies import ThePlans
from chat_api.plans.errors import StorageQuotaExceeded
from shared.contracts.chat import ImageType

router = APIRouter(prefix="/attachments", tags=["Messages"])

UPLOAD_PATH = "/attachments"
"""Where a body may be larger than JSON's limit, as a pattern without the prefix of the API."""

FORM_BYTES = 64 * 1024
"""What a form may have around its file."""

_FIELD = "file"
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "title": "AttachmentUpload",
                    "required": [_FIELD],
                    "additionalProperties": False,
                    "properties": {_FIELD: {"type": "string", "format": "binary", "description": "The file."}},
                    "example": {_FIELD: "The harbour closes at ten in the evening.\n"},
                }
            }
        },
    }
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file's bytes: a picture as itself, anything else as a download.",
        "content": dict.fromkeys((*(image.value for image in ImageType), OCTET_STREAM), _BINARY),
    }
}
# What somebody uploaded must never run as a page of ours, and is nobody else's to keep.
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=86400, immutable",
    "Vary": "Authorization",
}


async def get_attachment_service(
    request: Request, database: Statements, clock: TheClock, plans: ThePlans
) -> AttachmentService:
    storage: Storage = request.app.state.storage
    return AttachmentService(database, storage, clock, plans)


Attachments = Annotated[AttachmentService, Depends(get_attachment_service)]
AttachmentId = Annotated[UUID, Path(description="Id of the attachment.")]


@router.post(
    "",
    status_code=201,
    response_model=AttachmentRead,
    summary="Upload a file",
    responses=answers(
        AttachmentTooLarge,
        UnsupportedUpload,
        InvalidUpload,
        EmptyAttachment,
        IdempotencyKeyReused,
        StorageQuotaExceeded,
        StorageUnavailable,
    ),
    openapi_extra=_UPLOAD_BODY,
)
async def upload_attachment(
    request: Request, actor: ChatWriter, settings: TheSettings, attachments: Attachments, key: IdempotencyKey = None
) -> Response:
    """Store one file, of any kind, in a part named `file`. Name its id in a message within a day: else it is removed.

    What it is, is judged by its content. Only its uploader may name it.
    """
    rules = UploadRules(
        fields=(_FIELD,),
        max_files=1,
        max_bytes=settings.max_attachment_bytes,
        judge=media_type,
        too_large=AttachmentTooLarge.named,
    )
    async with scratch_folder() as folder:
        reader = UploadReader(folder, rules)
        [file] = await reader.form(request.headers.get("content-type"), upload_body(request))
        fingerprint = AttachmentFingerprint(name=file.name, sha256=file.sha256.hex())

        async def commit(db: AsyncSession, create: Create) -> Response:
            return await create_once(db, request, user_id=actor.user_id, key=key, body=fingerprint, create=create)

        return await attachments.accept(actor.user_id, file, commit)


@router.get(
    "/{attachment_id}",
    response_class=Response,
    summary="Read a file",
    responses=_FILE | answers(AttachmentNotFound, BytesMissing, StorageUnavailable),
)
async def get_attachment(attachment_id: AttachmentId, actor: ChatReader, attachments: Attachments) -> Response:
    """The bytes, for the uploader and for the participants of a session in which a message names the file.

    PNG, JPEG, GIF and WebP pictures come as themselves. Everything else is a download of no particular type, whatever
    it is, so that no browser opens it as a page.
    """
    file = await attachments.open(attachment_id, actor.user_id)
    image = shown_image(file.content_type)
    return StreamingResponse(
        file.pieces,
        media_type=OCTET_STREAM if image is None else image.value,
        headers=_SAFE_HEADERS
        | {
            "Content-Length": str(file.size_bytes),
            "Content-Disposition": content_disposition(file.name, inline=image is not None),
        },
    )


def content_disposition(name: str, *, inline: bool) -> str:
    """The header of RFC 6266: the name in ASCII for old clients, then as it is, percent-encoded."""
    plain = "".join(sign if sign.isascii() and sign.isprintable() and sign not in '"\\%' else "_" for sign in name)
    return f"{'inline' if inline else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
