"""`/users/me`: everything of one's own, handed out or erased."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from chat_api.auth.answers import answers
from chat_api.auth.permissions import AccountHolder
from chat_api.kit.storage import StorageUnavailable
from chat_api.privacy.dependencies import Closing, Exports
from chat_api.privacy.errors import ExportsBusy
from chat_api.privacy.schemas import AccountErasure, ErasureRead
from chat_api.users.errors import WrongPassword

router = APIRouter(prefix="/users/me", tags=["Accounts"])


_ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The archive, as a download.",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get(
    "/export",
    response_class=Response,
    summary="Export my account",
    responses=_ARCHIVE | answers(ExportsBusy, StorageUnavailable),
)
async def export_me(actor: AccountHolder, exports: Exports) -> Response:
    """Everything of the caller's as one zip: account, sessions, what was said in others' sessions, bots, documents and
    files with their bytes, decisions on tools, keys without their secrets, what was used.

    `manifest.json`, the last file in it, lists the others with their SHA-256. An archive that broke off does not open.
    """
    name = f"account-{actor.user_id}.zip"
    return StreamingResponse(
        await exports.open(actor.user_id),
        media_type="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Accel-Buffering": "no",
        },
    )


@router.delete("", status_code=202, summary="Erase my account", responses=answers(WrongPassword))
async def erase_me(actor: AccountHolder, body: AccountErasure, closing: Closing) -> ErasureRead:
    """Close the account at once, for good, and erase everything of the person's within moments.

    Sign-ins, keys, tickets and sockets end. Sessions, bots, documents and files are deleted. A session with others goes
    to the one who has been there longest; there, what the person said and what was answered to it becomes tombstones,
    and nothing names them any more. This cannot be undone: `GET /users/me/export` first.
    """
    return await closing.erase(actor.user_id, body.password)
