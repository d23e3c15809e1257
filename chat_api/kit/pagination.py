"""Keyset pages: stable under inserts, as fast on page 1,000 as on page 1.

A cursor is the sort key of the last row seen, as opaque URL-safe text.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from shared.problems import FieldError, ValidationFailed

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page. `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the page after this one; null at the end.")


class InvalidCursor(ValidationFailed):
    code = "invalid-cursor"
    title = "The cursor is not valid"
    detail = "Use `next_cursor` of an earlier page of the same list, unchanged."

    def __init__(self) -> None:
        super().__init__(errors=[FieldError(loc=["query", "cursor"], msg="Not a cursor of this list", type="cursor")])


def encode_cursor(*key: datetime | str | int | UUID) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([str(part) for part in key])).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """The key inside a cursor, each part as its kind. Raises `InvalidCursor`."""
    try:
        raw = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(raw, list) or len(raw) != len(kinds) or not all(isinstance(part, str) for part in raw):
            raise InvalidCursor
        return [_parse(part, kind) for part, kind in zip(raw, kinds, strict=True)]
    except (ValueError, binascii.Error, orjson.JSONDecodeError, OverflowError):
        raise InvalidCursor from None


def _parse(part: str, kind: type) -> object:
    if "\x00" in part:
        raise InvalidCursor
    if kind is datetime:
        moment = datetime.fromisoformat(part)
        if moment.tzinfo is None:
            raise InvalidCursor
        return moment.astimezone(UTC)  # overflows at the ends of the calendar here, not in the driver
    if kind is int:
        number = int(part)
        if not -(2**63) <= number < 2**63:
            raise InvalidCursor
        return number
    if kind is UUID:
        return UUID(part)
    return part
