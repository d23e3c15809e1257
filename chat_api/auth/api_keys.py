"""API keys: made, listed, revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.auth.actors import Actor, Scope
from chat_api.auth.authenticator import ApiKeySecret
from chat_api.auth.errors import ApiKeyNotFound, InsufficientScope
from chat_api.auth.models import ApiKey
from chat_api.auth.repository import ApiKeyRepository
from chat_api.auth.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from chat_api.kit.clock import Clock
from chat_api.kit.models import new_id
from chat_api.kit.pagination import Page, decode_cursor, encode_cursor
from shared.logging import get_logger
from shared.problems import FieldError, ValidationFailed

log = get_logger("auth")

LONGEST_LIFE = timedelta(days=3650)


class ApiKeyService:
    def __init__(self, db: AsyncSession, clock: Clock) -> None:
        self._keys = ApiKeyRepository(db)
        self._clock = clock

    async def create(self, actor: Actor, wanted: ApiKeyCreate) -> ApiKeyCreated:
        """Make a key. Raises `InsufficientScope` for a scope beyond the caller's, `ValidationFailed`."""
        self._check_expiry(wanted.expires_at)
        scopes = frozenset(wanted.scopes)
        if not scopes <= actor.scopes:
            raise InsufficientScope("A key cannot give scopes that it does not have itself.")
        if Scope.ADMIN in scopes and not await self._keys.owner_is_admin(actor.user_id):
            raise InsufficientScope("Only administrators can make keys with the scope `admin`.")
        secret = ApiKeySecret.new(new_id())
        key = ApiKey(
            id=secret.key_id,
            user_id=actor.user_id,
            name=wanted.name,
            secret_hash=secret.secret_hash,
            scopes=[scope.value for scope in Scope if scope in scopes],
            expires_at=wanted.expires_at,
            created_at=self._clock.now(),
        )
        await self._keys.add(key)
        log.info("api_key.created", user_id=actor.user_id, key_id=key.id, scopes=key.scopes)
        read = ApiKeyRead.model_validate(key)
        return ApiKeyCreated(**dict(read), key=secret.text)

    async def page(self, actor: Actor, *, cursor: str | None, limit: int) -> Page[ApiKeyRead]:
        """Live keys, newest first. Raises `InvalidCursor`."""
        before: UUID | None = decode_cursor(cursor, UUID)[0] if cursor else None
        rows = await self._keys.page_of(actor.user_id, before=before, limit=limit + 1)
        items = [ApiKeyRead.model_validate(row) for row in rows[:limit]]
        return Page(items=items, next_cursor=encode_cursor(items[-1].id) if len(rows) > limit else None)

    async def revoke(self, actor: Actor, key_id: UUID) -> None:
        """End a key, at once. Raises `ApiKeyNotFound`, also for somebody else's."""
        if not await self._keys.revoke(actor.user_id, key_id, self._clock.now()):
            raise ApiKeyNotFound
        log.info("api_key.revoked", user_id=actor.user_id, key_id=key_id)

    def _check_expiry(self, expires_at: datetime | None) -> None:
        if expires_at is None:
            return
        now = self._clock.now()
        if not now < expires_at <= now + LONGEST_LIFE:
            message = f"Must be in the future, and {LONGEST_LIFE.days} days away at most"
            raise ValidationFailed(errors=[FieldError(loc=["body", "expires_at"], msg=message, type="expires_at")])
