"""Cursors: there and back for every key, and one error for everything else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat_api.kit.pagination import InvalidCursor, decode_cursor, encode_cursor

MOMENTS = st.datetimes(timezones=st.just(UTC))
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(MOMENTS, st.uuids(), TEXTS, NUMBERS)
def test_every_key_comes_back(moment: datetime, identifier: UUID, text: str, number: int) -> None:
    cursor = encode_cursor(moment, identifier, text, number)
    assert cursor.isascii()
    assert not set(cursor) & set("=+/&?% ")
    assert decode_cursor(cursor, datetime, UUID, str, int) == [moment, identifier, text, number]


def test_moments_come_back_in_utc() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    (found,) = decode_cursor(encode_cursor(moment), datetime)
    assert found == moment
    assert found.tzinfo is UTC


def wrapped(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@given(st.text(max_size=60))
@example("")
@example("====")
@example("Zm9v")
def test_garbage_is_an_invalid_cursor(garbage: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(garbage, datetime, UUID)


@given(st.binary(max_size=60))
def test_encoded_garbage_is_an_invalid_cursor(garbage: bytes) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(base64.urlsafe_b64encode(garbage).decode(), datetime, UUID)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=4))
def test_well_wrapped_garbage_is_an_invalid_cursor_or_a_key(parts: list[str]) -> None:
    for kinds in ((datetime, UUID), (int,), (str,), (datetime,)):
        try:
            found = decode_cursor(wrapped(parts), *kinds)
        except InvalidCursor:
            continue
        assert [type(part) for part in found] == list(kinds)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (["9223372036854775808"], int),
        (["-9223372036854775809"], int),
        (["1" * 5000], int),
        (["1.5"], int),
        (["a\x00"], str),
        (["2026-01-01T00:00:00"], datetime),
        (["0001-01-01T00:00:00+23:59"], datetime),
        (["9999-12-31T23:59:59-23:59"], datetime),
        (["2026-13-01T00:00:00+00:00"], datetime),
        ([5], int),
        ([None], str),
        ([["a"]], str),
        (["a", "b"], str),
        ([], str),
        ({"a": "b"}, str),
        ("a", str),
        (None, str),
    ],
)
def test_near_misses_are_invalid(value: Any, kind: type) -> None:
    with pytest.raises(InvalidCursor) as caught:
        decode_cursor(wrapped(value), kind)
    assert caught.value.status == 422
    assert caught.value.as_json()["errors"][0]["loc"] == ["query", "cursor"]


def test_deep_nesting_is_invalid() -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(base64.urlsafe_b64encode(b"[" * 5000).decode(), str)
