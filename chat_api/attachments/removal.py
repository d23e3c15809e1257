"""What nobody needs any more: files that no message names, and bytes that no row has."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from chat_api.attachments.repository import AttachmentRepository
from chat_api.attachments.service import PREFIX, storage_key
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.storage import Storage

UNNAMED_AGE = timedelta(hours=24)
"""How long a file may wait for the message that names it."""

ORPHAN_AGE = timedelta(hours=1)
"""Longer than an upload takes from its first stored byte to its commit."""

_BATCH = 100


async def remove_unnamed(database: Database, storage: Storage, clock: Clock) -> int:
    """Remove the files older than `UNNAMED_AGE` that no message names; returns how many.

    The rows go first: should the storage be away then, `remove_orphans` finds the bytes. Raises `StorageUnavailable`.
    """
    oldest = clock.now() - UNNAMED_AGE
    removed = 0
    while True:
        async with database.unit() as db:
            attachments = AttachmentRepository(db)
            found = await attachments.lock_unnamed(oldest, _BATCH)
            keys = await attachments.delete_unnamed(found)
        for key in keys:
            await storage.delete(key)
        removed += len(keys)
        if len(found) < _BATCH:
            return removed


async def remove_orphans(database: Database, storage: Storage, clock: Clock) -> int:
    """Delete stored bytes older than `ORPHAN_AGE` that belong to no attachment; returns how many objects.

    Touches only what is stored under a person whom this database knows: a bucket may be shared, with another
    installation too. Raises `StorageUnavailable`.
    """
    oldest = clock.now() - ORPHAN_AGE
    removed = 0
    async for batch in storage.objects(PREFIX):
        old = {stored.key: ids for stored in batch if stored.modified_at < oldest and (ids := _ids_of(stored.key))}
        if not old:
            continue
        async with database.unit() as db:
            attachments = AttachmentRepository(db)
            owners = await attachments.known_owner_ids({owner_id for owner_id, _ in old.values()})
            known = await attachments.known_ids({attachment_id for _, attachment_id in old.values()})
        for key, (owner_id, attachment_id) in old.items():
            if owner_id in owners and attachment_id not in known:
                await storage.delete(key)
                removed += 1
    return removed


def _ids_of(key: str) -> tuple[UUID, UUID] | None:
    """The owner and the attachment of a key of ours; None for any other."""
    owner, _, attachment = key.removeprefix(f"{PREFIX}/").partition("/")
    try:
        ids = (UUID(owner), UUID(attachment))
    except ValueError:
        return None
    return ids if storage_key(*ids) == key else None
