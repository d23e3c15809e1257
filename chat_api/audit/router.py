"""`/admin/audit`: who did what, for administrators."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from chat_api.audit.dependencies import TheAuditLog
from chat_api.audit.repository import AuditFilter
from chat_api.audit.schemas import AuditEntryRead
from chat_api.auth.answers import answers
from chat_api.auth.errors import AdminRequired
from chat_api.auth.permissions import AdminActor
from chat_api.kit.dependencies import Cursor, Limit
from chat_api.kit.pagination import InvalidCursor, Page
from shared.schema import GivenMoment

router = APIRouter(prefix="/admin", tags=["Administration"])


Word = Annotated[str | None, Query(min_length=1, max_length=100, pattern=r"^[a-z_.]+$")]


@router.get("/audit", summary="Read the audit log", responses=answers(AdminRequired, InvalidCursor))
async def read_audit_log(
    _: AdminActor,
    audit: TheAuditLog,
    actor_id: Annotated[UUID | None, Query(description="Only what this person did.")] = None,
    action: Word = None,
    subject_type: Word = None,
    subject_id: Annotated[UUID | None, Query(description="Only what was done to this.")] = None,
    after: Annotated[GivenMoment | None, Query(description="From this moment on.")] = None,
    before: Annotated[GivenMoment | None, Query(description="Up to this moment, without it.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AuditEntryRead]:
    """What administrators did, and what people did to their own accounts; the newest first. Needs an administrator."""
    wanted = AuditFilter(actor_id, action, subject_type, subject_id, after, before)
    return await audit.page(wanted, limit=limit, cursor=cursor)
