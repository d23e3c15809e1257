"""`/bots`: assistants with a prompt, a model and documents of their own, and who may use them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from chat_api.auth.answers import answers
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.bots.dependencies import Bots, OwnedBot, OwnedBotToRead, VisibleBot
from chat_api.bots.errors import BotNotFound, NotBotOwner, OwnerNeedsNoShare, ShareNotFound
from chat_api.bots.models import Visibility
from chat_api.bots.repository import BotFilter, BotSort
from chat_api.bots.schemas import BotCreate, BotPatch, BotRead, BotShareRead
from chat_api.bots.service import read
from chat_api.kit.dependencies import Cursor, Db, Limit
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.pagination import InvalidCursor, Page
from chat_api.users.errors import UserNotFound

router = APIRouter(prefix="/bots", tags=["Bots"])

UserId = Annotated[UUID, Path(description="Id of the person.")]


@router.post(
    "",
    status_code=201,
    response_model=BotRead,
    summary="Make a bot",
    responses=answers(IdempotencyKeyReused),
)
async def create_bot(
    request: Request, body: BotCreate, actor: ChatWriter, bots: Bots, db: Db, key: IdempotencyKey = None
) -> Response:
    """Make a bot. The caller owns it; it is `private` unless the body says otherwise."""
    return await create_once(
        db,
        request,
        user_id=actor.user_id,
        key=key,
        body=body,
        create=lambda: bots.create(actor.user_id, body),
    )


@router.get("", summary="List the bots I may use", responses=answers(InvalidCursor))
async def list_bots(
    actor: ChatReader,
    bots: Bots,
    visibility: Annotated[Visibility | None, Query(description="Only these.")] = None,
    q: Annotated[str | None, Query(min_length=1, max_length=200, description="Part of the name.")] = None,
    mine: Annotated[bool, Query(description="Only those that the caller owns.")] = False,
    sort: Annotated[BotSort, Query(description="Order of the list.")] = BotSort.CREATED_DESC,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[BotRead]:
    """The caller's own bots, those shared with the caller, and the public ones; the newest first."""
    wanted = BotFilter(visibility=visibility, text=q, mine=mine)
    return await bots.page(actor.user_id, wanted, sort, limit=limit, cursor=cursor)


@router.get("/{bot_id}", summary="Read a bot", responses=answers(BotNotFound))
async def get_bot(bot: VisibleBot) -> BotRead:
    """One bot that the caller may use."""
    return read(bot)


_OWNER_ANSWERS = answers(BotNotFound, NotBotOwner)


@router.patch("/{bot_id}", summary="Change a bot", responses=_OWNER_ANSWERS)
async def patch_bot(bot: OwnedBot, body: BotPatch, bots: Bots) -> BotRead:
    """Change the fields that are sent; the others stay, also inside `configuration`.

    Sessions on the bot answer by the new values from their next run on. A bot that is no longer `shared` or `public`
    stops answering in other people's sessions.
    """
    return await bots.patch(bot, body)


@router.delete("/{bot_id}", status_code=204, summary="Delete a bot", responses=_OWNER_ANSWERS)
async def delete_bot(bot: OwnedBot, bots: Bots) -> None:
    """Delete the bot with its documents and all that was made of them. This cannot be undone.

    Runs of sessions on it fail with `bot-unavailable` until their `bot_id` is changed.
    """
    await bots.delete(bot)


@router.get(
    "/{bot_id}/shares",
    summary="List whom a bot is shared with",
    responses=answers(BotNotFound, NotBotOwner, InvalidCursor),
)
async def list_bot_shares(
    bot: OwnedBotToRead, bots: Bots, limit: Limit = 50, cursor: Cursor = None
) -> Page[BotShareRead]:
    """The people the owner named, the first one first."""
    return await bots.shares(bot, limit=limit, cursor=cursor)


@router.put(
    "/{bot_id}/shares/{user_id}",
    summary="Share a bot",
    responses=answers(BotNotFound, NotBotOwner, UserNotFound, OwnerNeedsNoShare),
)
async def put_bot_share(bot: OwnedBot, user_id: UserId, bots: Bots) -> BotShareRead:
    """Let somebody use the bot while its visibility is `shared`. Twice is the same as once."""
    return await bots.share(bot, user_id)


@router.delete(
    "/{bot_id}/shares/{user_id}",
    status_code=204,
    summary="Stop sharing a bot",
    responses=answers(BotNotFound, NotBotOwner, ShareNotFound),
)
async def delete_bot_share(bot: OwnedBot, user_id: UserId, bots: Bots) -> None:
    """Take it back. The person's sessions on the bot fail with `bot-unavailable` from then on."""
    await bots.unshare(bot, user_id)
