"""What may be done with a bot."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.errors import BotNotFound, NotBotOwner, OwnerNeedsNoShare, ShareNotFound
from chat_api.bots.models import Bot, Visibility
from chat_api.bots.repository import BotFilter, BotRepository, BotSort
from chat_api.bots.schemas import (
    BotConfiguration,
    BotConfigurationPatch,
    BotCreate,
    BotPatch,
    BotRead,
    BotShareRead,
)
from chat_api.kit.clock import Clock
from chat_api.kit.models import new_id
from chat_api.kit.outbox import Outbox
from chat_api.kit.pagination import Page
from chat_api.users.directory import UserDirectory
from chat_api.users.errors import UserNotFound

BOT_PURGE = "bot.purge"
"""Outbox topic: remove what a deleted bot left behind. The subject is the bot."""


class BotService:
    def __init__(self, db: AsyncSession, clock: Clock) -> None:
        self._repository = BotRepository(db)
        self._users = UserDirectory(db)
        self._outbox = Outbox(db)
        self._clock = clock

    async def visible(self, bot_id: UUID, user_id: UUID) -> Bot:
        """A bot that the person may use. Raises `BotNotFound`."""
        bot = await self._repository.visible(bot_id, user_id)
        if bot is None:
            raise BotNotFound
        return bot

    async def is_visible(self, bot_id: UUID, user_id: UUID) -> bool:
        return await self._repository.visible(bot_id, user_id) is not None

    async def owned(self, bot_id: UUID, user_id: UUID, *, lock: bool = True) -> Bot:
        """A bot of the person's own, locked until the unit ends. Raises `BotNotFound` and `NotBotOwner`."""
        bot = await self._repository.visible(bot_id, user_id, lock=lock)
        if bot is None:
            raise BotNotFound
        if bot.owner_id != user_id:
            raise NotBotOwner
        return bot

    async def create(self, owner_id: UUID, wanted: BotCreate) -> BotRead:
        now = self._clock.now()
        bot = Bot(
            id=new_id(),
            owner_id=owner_id,
            name=wanted.name,
            description=wanted.description,
            system_prompt=wanted.system_prompt,
            provider=wanted.provider,
            model=wanted.model,
            configuration=wanted.configuration.model_dump(mode="json"),
            visibility=wanted.visibility.value,
            created_at=now,
            updated_at=now,
        )
        self._repository.add(bot)
        await self._repository.refresh(bot)
        return read(bot)

    async def page(
        self, user_id: UUID, wanted: BotFilter, sort: BotSort, *, limit: int, cursor: str | None
    ) -> Page[BotRead]:
        bots, next_cursor = await self._repository.page(user_id, wanted, sort, limit=limit, cursor=cursor)
        return Page(items=[read(bot) for bot in bots], next_cursor=next_cursor)

    async def latest(self, user_id: UUID, limit: int) -> list[BotRead]:
        """Bots that the person may use, the newest first."""
        wanted = BotFilter(visibility=None, text=None, mine=False)
        bots, _ = await self._repository.page(user_id, wanted, BotSort.CREATED_DESC, limit=limit, cursor=None)
        return [read(bot) for bot in bots]

    async def known_ids(self, user_id: UUID, *, limit: int) -> list[UUID]:
        """The person's own bots, then those that are shared with them, each with the newest first.

        Public ones are not among them: anybody can make some, and what they know is not what the person knows.
        """
        known: dict[UUID, None] = {}
        for wanted in (
            BotFilter(visibility=None, text=None, mine=True),
            BotFilter(visibility=Visibility.SHARED, text=None, mine=False),
        ):
            bots, _ = await self._repository.page(user_id, wanted, BotSort.CREATED_DESC, limit=limit, cursor=None)
            known |= dict.fromkeys(bot.id for bot in bots)
        return list(known)[:limit]

    async def patch(self, bot: Bot, changes: BotPatch) -> BotRead:
        for name in changes.model_fields_set:
            value = getattr(changes, name)
            setattr(bot, name, _merged(bot, value) if isinstance(value, BotConfigurationPatch) else value)
        if changes.model_fields_set:
            await self._repository.refresh(bot)
        return read(bot)

    async def delete(self, bot: Bot) -> None:
        """Take the bot away from everybody at once. What it left behind is removed later."""
        bot.deleted_at = self._clock.now()
        await self._repository.refresh(bot)
        await self._outbox.put(BOT_PURGE, bot.id)

    async def shares(self, bot: Bot, *, limit: int, cursor: str | None) -> Page[BotShareRead]:
        items, next_cursor = await self._repository.shares(bot.id, limit=limit, cursor=cursor)
        return Page(items=items, next_cursor=next_cursor)

    async def share(self, bot: Bot, user_id: UUID) -> BotShareRead:
        """Let somebody use the bot. Raises `UserNotFound` and `OwnerNeedsNoShare`."""
        user = await self._users.find(user_id)
        if user is None:
            raise UserNotFound
        if user.id == bot.owner_id:
            raise OwnerNeedsNoShare
        stored = await self._repository.share(bot.id, user.id, self._clock.now())
        return BotShareRead(user_id=user.id, username=user.username, created_at=stored.created_at)

    async def unshare(self, bot: Bot, user_id: UUID) -> None:
        """Take a share back. Raises `ShareNotFound`."""
        if not await self._repository.unshare(bot.id, user_id):
            raise ShareNotFound


def read(bot: Bot) -> BotRead:
    return BotRead.model_validate(bot)


def _merged(bot: Bot, changes: BotConfigurationPatch) -> dict[str, object]:
    """The stored configuration with what was sent in its place, at both levels."""
    stored = BotConfiguration.model_validate(bot.configuration).model_dump(mode="json")
    sent = changes.model_dump(mode="json", exclude_unset=True)
    return stored | sent | {"retrieval": stored["retrieval"] | sent.get("retrieval", {})}
