"""`colloquy sessions cleanup`: idle sessions archived, or those removed that no plan keeps."""

from __future__ import annotations

import click

from chat_api.cli.progress import progress
from chat_api.config import ApiSettings
from chat_api.kit.clock import SystemClock
from chat_api.kit.db import Database
from chat_api.retention.service import Retention
from chat_api.sessions.hints import SessionHints


async def clean_up(settings: ApiSettings, *, days_old: int | None, dry_run: bool) -> None:
    """Without `days_old`, what is kept no longer is removed. Says on standard output how many sessions there were."""
    database = await Database.open(settings)
    try:
        # Whoever follows a session finds out by looking: no hint is worth a connection of its own here.
        retention = Retention(database, SessionHints(None), settings, SystemClock())
        with progress("Sessions", await retention.count()) as bar:
            if days_old is None:
                found = await retention.remove_expired(dry_run=dry_run, progress=bar)
            else:
                found = await retention.archive_idle(days_old, dry_run=dry_run, progress=bar)
    finally:
        await database.close()
    click.echo(_said(found, is_removal=days_old is None, dry_run=dry_run))


def _said(found: int, *, is_removal: bool, dry_run: bool) -> str:
    sessions = f"{found} session{'' if found == 1 else 's'}"
    if dry_run:
        return f"{sessions} would be {'removed' if is_removal else 'archived'}"
    return f"{'removed' if is_removal else 'archived'} {sessions}"
