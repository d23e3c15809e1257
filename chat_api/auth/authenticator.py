"""Turns what a request shows into an `Actor`."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from chat_api.auth import repository
from chat_api.auth.actors import ALL_SCOPES, Actor, Scope
from chat_api.auth.closed import ClosedAccounts
from chat_api.config import ApiSettings
from chat_api.kit.clock import Clock, SystemClock
from chat_api.kit.db import Database
from shared.problems import NotAuthenticated
from shared.remembered_tokens import RememberedTokens
from shared.security import (
    MAX_TOKEN_CHARS,
    InvalidToken,
    ServiceName,
    TokenKind,
    TokenSigner,
    service_signer,
)

ISSUER = "colloquy"
_API_KEY = re.compile(r"cq_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
_TICKET = re.compile(r"[A-Za-z0-9_-]{43}")
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKeySecret:
    """The secret parts of a key. Only `secret_hash` may be stored, and `text` is shown once."""

    key_id: UUID
    text: str
    secret_hash: bytes

    @classmethod
    def new(cls, key_id: UUID) -> ApiKeySecret:
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        return cls(key_id, f"cq_{key_id.hex}_{secret}", hash_secret(secret))

    @classmethod
    def parse(cls, text: str) -> ApiKeySecret | None:
        match = _API_KEY.fullmatch(text)
        if match is None:
            return None
        return cls(UUID(hex=match[1]), text, hash_secret(match[2]))


@dataclass(frozen=True, slots=True)
class TicketSecret:
    """The secret parts of a WebSocket ticket. Only `secret_hash` may be stored."""

    text: str
    secret_hash: bytes

    @classmethod
    def new(cls) -> TicketSecret:
        text = secrets.token_urlsafe(_SECRET_BYTES)
        return cls(text, hash_secret(text))

    @classmethod
    def parse(cls, text: str) -> TicketSecret | None:
        return cls(text, hash_secret(text)) if _TICKET.fullmatch(text) else None


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Authenticator:
    """Verifies credentials. One per process.

    A verified access token is remembered until it expires, so that it is verified once and not on every
    request. It costs no statement: `closed` knows whose account was closed, a second later at most. API keys and
    refresh tokens end with the account at once.
    """

    def __init__(self, settings: ApiSettings, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._tokens = TokenSigner(
            settings.secret_keys,
            kind=TokenKind.ACCESS,
            issuer=ISSUER,
            audience=ISSUER,
            lifetime=settings.access_token_lifetime,
            now=self._seconds,
        )
        self._service_tokens = service_signer(
            settings.service_keys,
            issuer=ServiceName.AGENT_SERVICE,
            audience=ServiceName.CHAT_API,
            now=self._seconds,
        )
        self._remembered = RememberedTokens[Actor]()
        self.closed = ClosedAccounts(database, self._clock, settings.access_token_lifetime)

    @property
    def access_token_seconds(self) -> int:
        return int(self._tokens.lifetime.total_seconds())

    def mint_access_token(self, user_id: UUID) -> str:
        return self._tokens.mint(str(user_id))

    async def authenticate(self, credential: str) -> Actor:
        """The caller behind an access token or an API key. Raises `NotAuthenticated`."""
        if credential.startswith("cq_"):
            actor = await self.authenticate_key(credential)
            if actor is None:
                raise NotAuthenticated("The API key is unknown, revoked or expired.")
            return actor
        return self.authenticate_token(credential)

    def authenticate_token(self, token: str) -> Actor:
        """The person behind an access token, without a statement. Raises `NotAuthenticated`."""
        actor = self._verified(token)
        if actor.user_id in self.closed:
            raise NotAuthenticated("The account is closed.")
        return actor

    def _verified(self, token: str) -> Actor:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise NotAuthenticated
        remembered = self._remembered.get(token, self._seconds())
        if remembered is not None:
            return remembered
        try:
            claims = self._tokens.verify(token)
            actor = Actor(user_id=UUID(claims.subject), scopes=ALL_SCOPES, api_key_id=None)
        except (InvalidToken, ValueError):
            raise NotAuthenticated("The access token is not valid, or has expired.") from None
        self._remembered.put(token, actor, claims.expires_at)
        return actor

    async def authenticate_key(self, text: str) -> Actor | None:
        """The caller behind an API key, in one statement; None for a key that is not live."""
        key = ApiKeySecret.parse(text)
        if key is None:
            return None
        owner = await repository.use_key(self._database, key.key_id, key.secret_hash, self._clock.now())
        if owner is None:
            return None
        return Actor(owner.user_id, frozenset(Scope(scope) for scope in owner.scopes), key.key_id)

    async def authenticate_ticket(self, text: str) -> Actor:
        """The caller behind a WebSocket ticket, which is used up by this. Raises `NotAuthenticated`."""
        ticket = TicketSecret.parse(text)
        holder = None
        if ticket is not None:
            holder = await repository.use_ticket(self._database, ticket.secret_hash, self._clock.now())
        if holder is None:
            raise NotAuthenticated("The ticket is unknown, used or expired.")
        return Actor(holder.user_id, frozenset(Scope(scope) for scope in holder.scopes), holder.api_key_id)

    async def still_valid(self, actors: Collection[Actor]) -> set[Actor]:
        """Those whose account is open and whose API key is live: for connections that outlive their credential.

        One statement for all of them. An access token that ran out does not matter here.
        """
        if not actors:
            return set()
        holders = {(actor.user_id, actor.api_key_id) for actor in actors}
        live = await repository.live_holders(self._database, holders, self._clock.now())
        return {actor for actor in actors if (actor.user_id, actor.api_key_id) in live}

    def authenticate_agent(self, token: str) -> None:
        """Accept the agent's service token. Raises `NotAuthenticated`."""
        try:
            self._service_tokens.verify(token)
        except InvalidToken:
            raise NotAuthenticated("Send the agent's service token.") from None

    async def is_admin(self, user_id: UUID) -> bool:
        return await repository.is_admin(self._database, user_id)

    def _seconds(self) -> float:
        return self._clock.now().timestamp()
