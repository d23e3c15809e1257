"""The base of every request and response model, and the text rules that PostgreSQL forces on us."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

MAX_JSON_DEPTH = 16
_INT64 = 2**63


def check_storable(value: object, depth: int = 0) -> None:
    """Refuse what JSON may carry but PostgreSQL's `text` and `jsonb` may not.

    That is NUL, lone surrogates, NaN and infinities, integers beyond 64 bits, and nesting deeper than
    `MAX_JSON_DEPTH`. Raises `PydanticCustomError`, so the caller sees a 422 that names the cause.
    """
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float | int):
        _check_number(value)
    elif isinstance(value, dict | list):
        if depth >= MAX_JSON_DEPTH:
            raise PydanticCustomError("json_too_deep", "JSON must not nest deeper than 16 levels")
        for item in value:  # a dictionary gives its keys
            check_storable(item, depth + 1)
        if isinstance(value, dict):
            for item in value.values():
                check_storable(item, depth + 1)


def _check_number(value: float) -> None:
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise PydanticCustomError("number_too_large", "Integers must fit 64 bits")
    elif not math.isfinite(value):
        raise PydanticCustomError("number_not_finite", "Numbers must be finite")


def _check_text(value: str) -> None:
    if "\x00" in value:
        raise PydanticCustomError("text_nul", "Text must not contain the NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError("text_surrogate", "Text must not contain lone surrogates") from None


class ReadSchema(BaseModel):
    """What we answer with. No defaults: a field that is left out by mistake is an error, not a null."""

    model_config = ConfigDict(from_attributes=True)


class WriteSchema(BaseModel):
    """What we accept. Unknown fields are refused, so no field can be set that is not written here."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        check_storable(data)
        return data


def _as_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:  # at the ends of the calendar
        raise PydanticCustomError("moment_out_of_range", "There is no such moment in UTC") from None


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Timestamp = Annotated[
    datetime,
    AfterValidator(_as_utc),
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
]
"""A moment in UTC, written as RFC 3339 with microseconds and `Z`: `2026-01-31T09:30:00.000000Z`."""

GivenMoment = Annotated[AwareDatetime, AfterValidator(_as_utc)]
"""A moment that is asked for, in any time zone."""
