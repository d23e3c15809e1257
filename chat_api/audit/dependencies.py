"""The audit log as a parameter type."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from chat_api.audit.service import AuditLog
from chat_api.auth.dependencies import TheClock
from chat_api.kit.dependencies import Db


async def get_audit_log(db: Db, clock: TheClock) -> AuditLog:
    return AuditLog(db, clock)


TheAuditLog = Annotated[AuditLog, Depends(get_audit_log)]
"""Writes in the request's unit of work."""
