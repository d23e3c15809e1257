"""`Idempotency-Key`: a creating POST that is sent twice is done once.

The key row is inserted in the same transaction as the creation, before it. A second request with the
same key waits on the unique index until the first commits, then gets the stored answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, get_args
from uuid import UUID

import orjson
from fastapi import Header, Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import LargeBinary, Text, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from chat_api.kit.bound_route import located
from chat_api.kit.models import Base
from shared.problems import ValidationFailed

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=KEY_HEADER,
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key and body within 24 h give the stored answer again.",
    ),
]


_KEY: TypeAdapter[str] = TypeAdapter(Annotated[str, *get_args(IdempotencyKey)[1:]])


def idempotency_key(header: str | None) -> str | None:
    """The header's value, checked. Raises `RequestValidationError`."""
    if header is None:
        return None
    try:
        return _KEY.validate_python(header)
    except ValidationError as error:
        raise located(error, "header", KEY_HEADER) from None


class IdempotencyKeyReused(ValidationFailed):
    code = "idempotency-key-reused"
    title = "The idempotency key was used for another request"
    detail = "Use a new key for a new request; send the same body to get the stored answer."


class StoredAnswer(Base):
    """What a key was answered with. `body` is null only inside the transaction that creates it."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int | None]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class Seal:
    """Turns a body into what may be stored, and back. The default stores it as it is."""

    def close(self, body: bytes) -> bytes:
        return body

    def open(self, stored: bytes) -> bytes:
        return stored


def fingerprint(request: Request, body: BaseModel) -> bytes:
    """What makes two requests the same: method, path, and the fields that were sent."""
    sent: dict[str, Any] = body.model_dump(mode="json", exclude_unset=True)
    material = [request.method, request.url.path, sent]
    return hashlib.sha256(orjson.dumps(material, option=orjson.OPT_SORT_KEYS)).digest()


async def create_once(
    db: AsyncSession,
    request: Request,
    *,
    user_id: UUID,
    key: str | None,
    body: BaseModel,
    create: Callable[[], Awaitable[BaseModel]],
    status: int = 201,
    seal: Seal | None = None,
) -> Response:
    """Run `create` and answer with what it returns; with a key that was used before, answer as then.

    Raises `IdempotencyKeyReused` when the key came with another request.
    """
    if key is None:
        return _answer(status, _serialise(await create()))
    seal = seal or Seal()
    request_hash = fingerprint(request, body)
    inserted = await db.execute(
        insert(StoredAnswer)
        .values(user_id=user_id, key=key, request_hash=request_hash)
        .on_conflict_do_nothing()
        .returning(StoredAnswer.key)
    )
    if inserted.scalar_one_or_none() is None:
        stored = (
            await db.execute(select(StoredAnswer).where(StoredAnswer.user_id == user_id, StoredAnswer.key == key))
        ).scalar_one()
        if stored.request_hash != request_hash or stored.status is None or stored.body is None:
            raise IdempotencyKeyReused
        return _answer(stored.status, seal.open(stored.body), replayed=True)
    content = _serialise(await create())
    await db.execute(
        update(StoredAnswer)
        .where(StoredAnswer.user_id == user_id, StoredAnswer.key == key)
        .values(status=status, body=seal.close(content))
    )
    return _answer(status, content)


async def forget_answers_before(db: AsyncSession, moment: datetime) -> int:
    """Delete the answers that are older than `moment`; returns how many."""
    result = await db.execute(delete(StoredAnswer).where(StoredAnswer.created_at < moment).returning(StoredAnswer.key))
    return len(result.all())


def _serialise(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()


def _answer(status: int, content: bytes, *, replayed: bool = False) -> Response:
    headers = {REPLAYED_HEADER: "true"} if replayed else {}
    return Response(content, status_code=status, media_type="application/json", headers=headers)
