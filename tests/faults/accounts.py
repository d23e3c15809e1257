"""People as rows, each with an access token: a sign-in costs half a second of a busy machine, and is tested before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from chat_api.auth.authenticator import ISSUER
from chat_api.kit.models import new_id
from shared.security import TokenKind, TokenSigner
from tests.faults.ledger import Ledger


@dataclass(frozen=True)
class Member:
    id: str
    token: str


class Signing(Protocol):
    """Whatever runs the services: it knows what access tokens are signed with."""

    @property
    def secret_key(self) -> str: ...


async def add_people(services: Signing, ledger: Ledger, count: int) -> list[Member]:
    """Accounts that nobody can sign in to. Their tokens hold for an hour."""
    signer = TokenSigner(
        services.secret_key,
        kind=TokenKind.ACCESS,
        issuer=ISSUER,
        audience=ISSUER,
        lifetime=timedelta(hours=1),
    )
    ids = [new_id() for _ in range(count)]
    await ledger.rows(
        "INSERT INTO chat.users (id, email, username, password_hash)"
        " SELECT id, id || '@example.org', 'faults-' || right(id::text, 12), '!' FROM unnest($1::uuid[]) AS p (id)",
        ids,
    )
    return [Member(str(user_id), signer.mint(str(user_id))) for user_id in ids]
