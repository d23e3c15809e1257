"""Keeping a session as it is, and making a new one of what was kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.service import BotService
from chat_api.kit.clock import Clock
from chat_api.kit.models import new_id
from chat_api.kit.pagination import Page
from chat_api.sessions.errors import NotSessionOwner
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.models import Session
from chat_api.sessions.schemas import SessionRead
from chat_api.sessions.service import SessionService
from chat_api.snapshots.errors import SessionTooLong, SnapshotNotFound, TooManySnapshots
from chat_api.snapshots.models import Snapshot
from chat_api.snapshots.repository import SnapshotRepository
from chat_api.snapshots.schemas import SnapshotCreate, SnapshotRead
from chat_api.transfer.repository import TransferRepository
from shared.logging import get_logger

log = get_logger("snapshots")

_BATCH = 1_000


class SnapshotService:
    def __init__(
        self, db: AsyncSession, clock: Clock, hints: SessionHints, *, max_snapshots: int, max_messages: int
    ) -> None:
        self._repository = SnapshotRepository(db)
        self._transfer = TransferRepository(db)
        self._sessions = SessionService(db, clock, hints)
        self._bots = BotService(db, clock)
        self._clock = clock
        self._max_snapshots = max_snapshots
        self._max_messages = max_messages

    async def create(self, session: Session, wanted: SnapshotCreate) -> SnapshotRead:
        """Copy a session whose row is locked. Raises `TooManySnapshots` and `SessionTooLong`."""
        if await self._repository.count(session.id) >= self._max_snapshots:
            raise TooManySnapshots(f"There may be {self._max_snapshots}. Delete one first.")
        if session.message_count > self._max_messages:
            raise SessionTooLong(f"A snapshot may have {self._max_messages} messages. Export the session instead.")
        snapshot = Snapshot(
            id=new_id(),
            session_id=session.id,
            title=wanted.title or session.title,
            session=_kept(session),
            message_count=0,
            created_at=self._clock.now(),
        )
        await self._repository.be_patient()
        await self._repository.add(snapshot)
        log.info("snapshot.created", snapshot_id=str(snapshot.id), messages=snapshot.message_count)
        return SnapshotRead.model_validate(snapshot)

    async def page(self, session_id: UUID, *, limit: int, cursor: str | None) -> Page[SnapshotRead]:
        found, next_cursor = await self._repository.page(session_id, limit=limit, cursor=cursor)
        return Page(items=[SnapshotRead.model_validate(snapshot) for snapshot in found], next_cursor=next_cursor)

    async def restore(self, snapshot_id: UUID, user_id: UUID) -> SessionRead:
        """Make a new session with the same content, of which the person is owner and only participant.

        Messages keep their senders and times. Files are named as far as they are still there, and the bot answers where
        the person may still use it. No run starts. Raises `SnapshotNotFound` and `NotSessionOwner`.
        """
        snapshot = await self._owned(snapshot_id, user_id)
        await self._repository.be_patient()
        kept = dict(snapshot.session)
        bot_id = kept.get("bot_id")
        if bot_id is not None and not await self._bots.is_visible(UUID(bot_id), user_id):
            kept["bot_id"] = None
        session_id = new_id()
        placed = {"id": session_id, "messages": snapshot.message_count, "place": 0}
        await self._transfer.add_sessions(user_id, [kept | placed])
        named = await self._repository.named_files(snapshot.id)
        files = [UUID(file_id) for file_id in await self._transfer.readable_files(user_id, named)]
        for after in range(0, snapshot.message_count, _BATCH):
            ids = [new_id() for _ in range(min(_BATCH, snapshot.message_count - after))]
            await self._repository.restore_messages(session_id, snapshot.id, after=after, ids=ids, files=files)
        log.info("snapshot.restored", snapshot_id=str(snapshot.id), session_id=str(session_id))
        seen = await self._sessions.seen_by(session_id, user_id)
        assert seen is not None
        return seen[0]

    async def delete(self, snapshot_id: UUID, user_id: UUID) -> None:
        """Raises `SnapshotNotFound` and `NotSessionOwner`."""
        snapshot = await self._owned(snapshot_id, user_id)
        await self._repository.delete(snapshot.id)

    async def _owned(self, snapshot_id: UUID, user_id: UUID) -> Snapshot:
        found = await self._repository.of_participant(snapshot_id, user_id)
        if found is None:
            raise SnapshotNotFound
        snapshot, owner_id = found
        if owner_id != user_id:
            raise NotSessionOwner
        return snapshot


def _kept(session: Session) -> dict[str, Any]:
    """Of the session's row, what a restored one has as well."""
    return {
        "title": session.title,
        "bot_id": None if session.bot_id is None else str(session.bot_id),
        "provider": session.provider,
        "model": session.model,
        "system_prompt": session.system_prompt,
        "reply_policy": session.reply_policy,
        "approval_mode": session.approval_mode,
        "tags": session.tags,
        "metadata": session.metadata_,
        "settings": session.settings,
    }
