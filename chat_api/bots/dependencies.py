"""Bots as parameter types: who may do what is in the signature of the route."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from chat_api.auth.dependencies import TheClock
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.bots.models import Bot
from chat_api.bots.service import BotService
from chat_api.kit.dependencies import Db

BotId = Annotated[UUID, Path(description="Id of the bot.")]


async def get_bot_service(db: Db, clock: TheClock) -> BotService:
    return BotService(db, clock)


Bots = Annotated[BotService, Depends(get_bot_service)]


async def load_visible_bot(bot_id: BotId, actor: ChatReader, bots: Bots) -> Bot:
    return await bots.visible(bot_id, actor.user_id)


async def load_owned_bot(bot_id: BotId, actor: ChatWriter, bots: Bots) -> Bot:
    return await bots.owned(bot_id, actor.user_id)


async def load_owned_bot_to_read(bot_id: BotId, actor: ChatReader, bots: Bots) -> Bot:
    return await bots.owned(bot_id, actor.user_id, lock=False)


VisibleBot = Annotated[Bot, Depends(load_visible_bot)]
"""A bot that the caller may use."""

OwnedBot = Annotated[Bot, Depends(load_owned_bot)]
"""A bot that the caller owns, locked, to change."""

OwnedBotToRead = Annotated[Bot, Depends(load_owned_bot_to_read)]
"""A bot that the caller owns, for what only its owner may read."""
