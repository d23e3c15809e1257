"""What PostgreSQL can store of what JSON can say, and how moments are written."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from shared.schema import MAX_JSON_DEPTH, GivenMoment, ReadSchema, Timestamp, WriteSchema, check_storable


class Note(WriteSchema):
    text: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


def nested(depth: int, kind: type) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if kind is list else {"k": value}
    return value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("a\x00b", "text_nul"),
        ("\x00", "text_nul"),
        ("\ud800", "text_surrogate"),
        ("ok \udfff", "text_surrogate"),
        (math.nan, "number_not_finite"),
        (math.inf, "number_not_finite"),
        (-math.inf, "number_not_finite"),
        (2**63, "number_too_large"),
        (-(2**63) - 1, "number_too_large"),
    ],
)
def test_what_cannot_be_stored_is_named_wherever_it_hides(value: object, kind: str) -> None:
    hidden: list[object] = [value, [value], {"k": value}, {"k": [1, {"l": [value]}]}]
    if isinstance(value, str):
        hidden += [{value: 1}, {"k": {value: 1}}]
    for whole in hidden:
        with pytest.raises(PydanticCustomError) as caught:
            check_storable(whole)
        assert caught.value.type == kind


@pytest.mark.parametrize("kind", [list, dict])
def test_sixteen_levels_are_the_deepest(kind: type) -> None:
    check_storable(nested(MAX_JSON_DEPTH, kind))
    with pytest.raises(PydanticCustomError) as caught:
        check_storable(nested(MAX_JSON_DEPTH + 1, kind))
    assert caught.value.type == "json_too_deep"


def test_a_thousand_levels_do_not_break_it() -> None:
    with pytest.raises(PydanticCustomError):
        check_storable(nested(100_000, list))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abé\U0001f600"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_everything_else_passes(value: object) -> None:
    check_storable(value)


def test_models_refuse_with_the_cause() -> None:
    with pytest.raises(ValidationError) as caught:
        Note.model_validate({"text": "a\x00"})
    assert [item["type"] for item in caught.value.errors()] == ["text_nul"]
    with pytest.raises(ValidationError) as caught:
        Note.model_validate_json('{"data": {"n": 1e999}}')
    assert [item["type"] for item in caught.value.errors()] == ["number_not_finite"]


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        Note.model_validate({"text": "a", "is_admin": True})
    assert [(item["type"], item["loc"]) for item in caught.value.errors()] == [("extra_forbidden", ("is_admin",))]


def test_read_models_take_rows() -> None:
    class Row:
        text = "x"

    class Shown(ReadSchema):
        text: str

    assert Shown.model_validate(Row()).text == "x"


TIMESTAMP: TypeAdapter[datetime] = TypeAdapter(Timestamp)


def test_moments_are_written_in_utc_with_z() -> None:
    berlin = timezone(timedelta(hours=2))
    for moment in (datetime(2026, 1, 31, 9, 30, tzinfo=UTC), datetime(2026, 1, 31, 11, 30, tzinfo=berlin)):
        value = TIMESTAMP.validate_python(moment)
        assert TIMESTAMP.dump_json(value) == b'"2026-01-31T09:30:00.000000Z"'
        assert value.tzinfo is UTC


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1000))
def test_moments_survive_the_way_there_and_back(moment: datetime) -> None:
    written = TIMESTAMP.dump_json(moment)
    assert TIMESTAMP.validate_json(written) == moment
    assert len(written) == len('"2026-01-31T09:30:00.000000Z"')


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
@pytest.mark.parametrize("kind", [Timestamp, GivenMoment])
def test_a_moment_that_there_is_not_in_utc_is_refused(kind: type[datetime], moment: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(moment)
