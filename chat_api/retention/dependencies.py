"""Collaborators of the routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.kit.dependencies import Statements
from chat_api.retention.service import Retention


async def get_retention(request: Request, database: Statements, settings: TheSettings, clock: TheClock) -> Retention:
    return Retention(database, request.app.state.hints, settings, clock)


TheRetention = Annotated[Retention, Depends(get_retention)]
