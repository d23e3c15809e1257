"""Values of a file are held one at a time, and none of them may be of any size."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from chat_api.transfer.errors import InvalidImport
from chat_api.transfer.json_events import JsonEvents, Limits, Shape

SMALL = Limits(token_bytes=200_000, depth=10, values=100, object_bytes=400_000)


def value(content: bytes, limits: Limits = SMALL, shape: Shape = None) -> Any:
    events = JsonEvents(io.BytesIO(content), lambda _: None, limits)
    found = events.value(shape=shape)
    events.finish()
    return found


@pytest.mark.parametrize(
    "given", [{"a": [1, 2.5, "x", None, True, {}], "b": {"c": []}}, [], "text", 5, -0.5, "😀", "a\x00b"]
)
def test_what_is_sound_is_built(given: object) -> None:
    assert value(json.dumps(given).encode()) == given


def test_only_what_is_wanted_is_built() -> None:
    given = {"a": 1, "b": {"c": [2, {"d": 3}], "e": 4}, "f": [{"a": 1, "g": 2}]}
    assert value(json.dumps(given).encode(), shape={"b": {"c": None}, "f": {"g": None}}) == {
        "b": {"c": [2, {"d": 3}]},
        "f": [{"g": 2}],
    }


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"a": "' + b"x" * 500_000 + b'"}', id="text"),
        pytest.param(b"[" + b" " * 500_000 + b"]", id="spaces"),
        pytest.param(b"1" * 500_000, id="digits"),
        pytest.param(b'{"' + b"x" * 500_000 + b'": 1}', id="name"),
        pytest.param(json.dumps(["x" * 50_000] * 20).encode(), id="texts"),
        pytest.param(json.dumps([[]] * 100).encode(), id="values"),
        pytest.param(json.dumps({"a": {"b": [[]] * 99}}).encode(), id="values inside"),
    ],
)
def test_nothing_large_is_held(content: bytes) -> None:
    with pytest.raises(InvalidImport) as caught:
        value(content)
    assert caught.value.errors
    assert caught.value.errors[0].type == "too_long"


def test_depth_is_counted_also_where_nothing_is_built() -> None:
    assert value(b"[" * 10 + b"]" * 10)
    for content in (b"[" * 11, b'{"x": ' + b"[" * 10):
        with pytest.raises(InvalidImport) as caught:
            value(content, shape={})
        assert caught.value.errors
        assert caught.value.errors[0].type == "too_deep"


def test_it_tells_how_far_it_is() -> None:
    content = json.dumps(["x" * 100_000] * 3).encode()
    told: list[int] = []
    JsonEvents(io.BytesIO(content), told.append).value()
    assert len(told) > 3
    assert sum(told) <= len(content)
