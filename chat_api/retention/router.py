"""`/admin/cleanup`: idle sessions, archived."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from chat_api.auth.answers import answers
from chat_api.auth.errors import AdminRequired
from chat_api.auth.permissions import AdminActor
from chat_api.retention.dependencies import TheRetention
from chat_api.retention.schemas import CleanupRead

router = APIRouter(prefix="/admin", tags=["Administration"])

MOST_AT_ONCE = 20_000
"""Sessions that one request archives: it takes seconds."""


@router.post("/cleanup", summary="Archive idle sessions", responses=answers(AdminRequired))
async def clean_up(
    actor: AdminActor,
    retention: TheRetention,
    days_old: Annotated[int, Query(ge=1, le=36_500, description="Days without a message.")] = 30,
    dry_run: Annotated[bool, Query(description="Only count them.")] = False,
) -> CleanupRead:
    """Archive the active sessions, of whomever, in which nothing was said for so long. Needs an administrator.

    Those in which a run is under way, or waits for a decision, stay as they are. Nothing is lost: whoever owns an
    archived session can unarchive it. Once is the same as twice.
    """
    most = None if dry_run else MOST_AT_ONCE
    sessions = await retention.archive_idle(days_old, actor_id=actor.user_id, dry_run=dry_run, most=most)
    return CleanupRead(
        days_old=days_old, dry_run=dry_run, sessions=sessions, is_complete=most is None or sessions < most
    )
