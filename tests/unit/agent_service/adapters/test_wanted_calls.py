"""Calls put together from what servers send in fragments."""

from __future__ import annotations

from typing import Any

import pytest

from agent_service.adapters.wanted_calls import MAX_ARGUMENT_CHARACTERS, CallAssembler, bounded
from agent_service.domain.turn import CallWanted
from shared.contracts.tools import MAX_ARGUMENT_BYTES, MAX_CALLS

A, B = '{"x": 1}', '{"y": 2}'


def fragment(
    arguments: Any = None, name: str | None = None, index: int | None = None, given_id: str | None = None
) -> dict[str, Any]:
    values = {"index": index, "id": given_id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in values.items() if value is not None}


def heard(*deltas: list[dict[str, Any]]) -> list[CallWanted]:
    assembler = CallAssembler()
    for delta in deltas:
        assembler.feed(delta)
    return assembler.calls()


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param(
            [
                [fragment("", "a", 0, "1")],
                [fragment(A[:3], index=0)],
                [fragment(A[3:], index=0)],
                [fragment("", "b", 1, "2")],
                [fragment(B, index=1)],
            ],
            id="as OpenAI does",
        ),
        pytest.param([[fragment(A, "a", 0, "1"), fragment(B, "b", 1, "2")]], id="whole, in one delta"),
        pytest.param(
            [
                [fragment(A[:2], "a", 0, "1"), fragment(B[:2], "b", 1, "2")],
                [fragment(B[2:], index=1), fragment(A[2:], index=0)],
            ],
            id="alternating",
        ),
        pytest.param([[fragment(A, "a", 0, "1")], [fragment(B, "b", 0, "2")]], id="the same index for both"),
        pytest.param(
            [[fragment(A, "a", given_id="1")], [fragment(B[:4], "b", given_id="2")], [fragment(B[4:])]], id="no index"
        ),
        pytest.param(
            [
                [fragment(A[:2], "a", 0, "1")],
                [fragment(A[2:], "a", 0, "1")],
                [fragment(B[:2], "b", 1, "2")],
                [fragment(B[2:], "b", 1, "2")],
            ],
            id="id and name in each fragment",
        ),
        pytest.param(
            [
                [fragment("", "a", 0, "1")],
                [fragment(A, index=0, given_id="other")],
                [fragment(B, "b", 1, "2")],
            ],
            id="a new id in each fragment",
        ),
        pytest.param([[fragment({"x": 1}, "a", 0, "1"), fragment({"y": 2}, "b", 1, "2")]], id="objects, not strings"),
    ],
)
def test_fragments_of_two_calls(deltas: list[list[dict[str, Any]]]) -> None:
    calls = heard(*deltas)
    assert [(call.id, call.name, call.arguments.replace(" ", "")) for call in calls] == [
        ("1", "a", '{"x":1}'),
        ("2", "b", '{"y":2}'),
    ]


@pytest.mark.parametrize("index", [0, None])
def test_without_ids_a_whole_call_is_followed_by_another(index: int | None) -> None:
    calls = heard([fragment(A, "a", index), fragment(B, "a", index)])
    assert [(call.id, call.arguments) for call in calls] == [("", A), ("", B)]


def test_a_name_may_come_late() -> None:
    assert heard([fragment("{", index=0)], [fragment("}", "a", 0, "1")]) == [CallWanted("1", "a", "{}")]


def test_calls_beyond_the_most_are_left_out_with_all_their_fragments() -> None:
    assembler = CallAssembler()
    for index in range(MAX_CALLS + 3):
        assembler.feed([fragment("{", f"tool{index}", index, str(index))])
        assembler.feed([fragment("}", index=index)])
    assembler.feed([fragment('"stray"')])
    assert [call.arguments for call in assembler.calls()] == ["{}"] * MAX_CALLS
    assert assembler.is_cut


def test_endless_arguments_are_cut_and_stay_too_long() -> None:
    calls = heard([fragment("x" * 100_000, "a", 0)], *([[fragment("x" * 100_000, index=0)]] * 3))
    assert len(calls[0].arguments) == MAX_ARGUMENT_CHARACTERS
    assert len(calls[0].arguments) > MAX_ARGUMENT_BYTES


@pytest.mark.parametrize("delta", [["text"], [None], [{"function": {"name": 5}}], [{"function": "text"}]])
def test_what_is_no_call_is_refused(delta: list[Any]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        heard(delta)


def test_marks_and_ids_that_are_too_long_are_left_out() -> None:
    assert bounded(CallWanted("i" * 201, "n" * 300, "{}", "s" * 70_000)) == CallWanted("", "n" * 200, "{}", None)
