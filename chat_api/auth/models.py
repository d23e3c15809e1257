"""Tables of credentials. Secrets are stored as SHA-256: they are 256 random bits, so no slow hash is needed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.auth.actors import Scope
from chat_api.kit.models import Base, Created, new_id


def _quoted(values: type[StrEnum]) -> str:
    return ", ".join(f"'{value}'" for value in values)


class RevocationReason(StrEnum):
    LOGOUT = "logout"
    REUSE = "reuse"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason, not a password


class RefreshFamily(Created, Base):
    """One sign-in and the chain of refresh tokens that came from it; only the newest token is good.

    A token names its family and carries a secret. A secret that is not the newest was used before, so
    the used ones need not be kept. The id is random (v4) because knowing it is half of the token.
    """

    __tablename__ = "refresh_families"
    __table_args__ = (
        CheckConstraint(f"revoked_reason IN ({_quoted(RevocationReason)})", name="revoked_reason"),
        CheckConstraint("(revoked_at IS NULL) = (revoked_reason IS NULL)", name="revoked_with_reason"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id", ondelete="CASCADE"), index=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    rotated_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str | None]


class WebSocketTicket(Base):
    """A credential for one WebSocket, short-lived and used once: browsers cannot send headers with it."""

    __tablename__ = "ws_tickets"
    __table_args__ = (Index("ix_ws_tickets_expires_at", "expires_at"),)

    ticket_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id", ondelete="CASCADE"), index=True)
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("chat.api_keys.id", ondelete="CASCADE"), index=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime]


class ApiKey(Created, Base):
    """A long-lived credential for programs: `cq_<id>_<secret>`."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(f"scopes <@ ARRAY[{_quoted(Scope)}]", name="scopes"),
        CheckConstraint("cardinality(scopes) > 0", name="some_scope"),
        Index(None, "user_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("chat.users.id", ondelete="CASCADE"))
    name: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
