"""`/sessions/{id}/snapshots` and `/snapshots`: copies of a session, kept and restored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response

from chat_api.auth.answers import answers
from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.kit.dependencies import Cursor, Db, Limit
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.pagination import InvalidCursor, Page
from chat_api.kit.turns import Turns
from chat_api.sessions.dependencies import OwnedSession, TheHints, VisibleSession
from chat_api.sessions.errors import NotSessionOwner, SessionNotFound
from chat_api.sessions.schemas import SessionRead
from chat_api.snapshots.errors import CopiesBusy, SessionTooLong, SnapshotNotFound, TooManySnapshots
from chat_api.snapshots.schemas import SnapshotCreate, SnapshotRead
from chat_api.snapshots.service import SnapshotService
from shared.schema import WriteSchema

router = APIRouter(tags=["Sessions"])

SnapshotId = Annotated[UUID, Path(description="Id of the snapshot.")]


async def get_snapshot_service(db: Db, clock: TheClock, hints: TheHints, settings: TheSettings) -> SnapshotService:
    return SnapshotService(
        db, clock, hints, max_snapshots=settings.max_snapshots, max_messages=settings.max_session_copy_messages
    )


Snapshots = Annotated[SnapshotService, Depends(get_snapshot_service)]


async def take_turn(request: Request, _: ChatWriter) -> AsyncIterator[None]:
    turns: Turns = request.app.state.copies
    async with turns.turn():
        yield


CopyTurn = Annotated[None, Depends(take_turn, scope="function")]
"""One's turn to copy a session. Ask for it first: nothing may be held while one waits."""


@router.post(
    "/sessions/{session_id}/snapshots",
    status_code=201,
    response_model=SnapshotRead,
    summary="Take a snapshot",
    responses=answers(
        SessionNotFound, NotSessionOwner, TooManySnapshots, SessionTooLong, CopiesBusy, IdempotencyKeyReused
    ),
)
async def create_snapshot(
    request: Request,
    _: CopyTurn,
    session: OwnedSession,
    body: SnapshotCreate,
    actor: ChatWriter,
    snapshots: Snapshots,
    db: Db,
    key: IdempotencyKey = None,
) -> Response:
    """Keep the session as it is now, for its owner. Clearing the history leaves snapshots; deleting the session does
    not.

    A message that another participant takes back is taken out of snapshots as well.
    """
    return await create_once(
        db,
        request,
        user_id=actor.user_id,
        key=key,
        body=body,
        create=lambda: snapshots.create(session, body),
    )


@router.get(
    "/sessions/{session_id}/snapshots",
    summary="List a session's snapshots",
    responses=answers(SessionNotFound, NotSessionOwner, InvalidCursor),
)
async def list_snapshots(
    session: VisibleSession, actor: ChatReader, snapshots: Snapshots, limit: Limit = 50, cursor: Cursor = None
) -> Page[SnapshotRead]:
    """The newest first. For the owner of the session."""
    if session.owner_id != actor.user_id:
        raise NotSessionOwner
    return await snapshots.page(session.id, limit=limit, cursor=cursor)


class _Nothing(WriteSchema):
    """The body of a request that has none."""


@router.post(
    "/snapshots/{snapshot_id}/restore",
    status_code=201,
    response_model=SessionRead,
    summary="Restore a snapshot",
    responses=answers(SnapshotNotFound, NotSessionOwner, CopiesBusy, IdempotencyKeyReused),
)
async def restore_snapshot(
    request: Request,
    _: CopyTurn,
    snapshot_id: SnapshotId,
    actor: ChatWriter,
    snapshots: Snapshots,
    db: Db,
    key: IdempotencyKey = None,
) -> Response:
    """Make a new session with the same content, for the caller alone. The session and the snapshot stay as they are.

    Files that are gone are named no more. Nothing is answered anew.
    """
    return await create_once(
        db,
        request,
        user_id=actor.user_id,
        key=key,
        body=_Nothing(),
        create=lambda: snapshots.restore(snapshot_id, actor.user_id),
    )


@router.delete(
    "/snapshots/{snapshot_id}",
    status_code=204,
    summary="Delete a snapshot",
    responses=answers(SnapshotNotFound, NotSessionOwner),
)
async def delete_snapshot(snapshot_id: SnapshotId, actor: ChatWriter, snapshots: Snapshots) -> None:
    """Delete the copy. This cannot be undone."""
    await snapshots.delete(snapshot_id, actor.user_id)
