"""Arguments as models write them."""

from __future__ import annotations

from typing import Any

import pytest

from agent_service.application.tool_arguments import check_arguments, read_arguments
from agent_service.domain.tool_problems import ToolArgumentsInvalid
from shared.contracts.tools import MAX_ARGUMENT_BYTES
from tests.fakes.tools import WITH_QUERY, FakeTool


@pytest.mark.parametrize(
    ("written", "arguments"), [("", {}), ("  ", {}), ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]})]
)
def test_reads_an_object(written: str, arguments: dict[str, Any]) -> None:
    assert read_arguments(written) == arguments


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        pytest.param('{"a": ', "json", id="cut"),
        pytest.param("[1]", "type", id="list"),
        pytest.param('"text"', "type", id="text"),
        pytest.param('{"a": "\\u0000"}', "text_nul", id="nul"),
        pytest.param('{"a": "\\ud83d"}', "text_surrogate", id="surrogate"),
        pytest.param('{"a": "\ud83d"}', "text_surrogate", id="raw surrogate"),
        pytest.param('{"a": NaN}', "number_not_finite", id="nan"),
        pytest.param('{"a": ' + "[" * 20 + "]" * 20 + "}", "json_too_deep", id="deep"),
        pytest.param('{"a": ' + "[" * 5000, "json", id="deep and cut"),
        pytest.param('{"a": "' + "ä" * (MAX_ARGUMENT_BYTES // 2) + '"}', "too_large", id="too large"),
        pytest.param("{" + " " * (100 * 1024 * 1024), "too_large", id="a flood"),
    ],
)
def test_refuses_what_is_none(written: str, kind: str) -> None:
    with pytest.raises(ToolArgumentsInvalid) as refused:
        read_arguments(written)
    [error] = refused.value.errors or []
    assert error.type == kind


def test_tells_what_does_not_fit_and_where() -> None:
    with pytest.raises(ToolArgumentsInvalid) as refused:
        check_arguments({"query": "x" * 21, "other": 1}, FakeTool(parameters=WITH_QUERY).spec)
    assert {tuple(error.loc) for error in refused.value.errors or []} == {("query",), ()}
    assert "query: " in refused.value.detail
    assert "other" in refused.value.detail


def test_takes_what_fits() -> None:
    check_arguments({"query": "harbour"}, FakeTool(parameters=WITH_QUERY).spec)


def test_a_person_cannot_send_more_than_a_model() -> None:
    with pytest.raises(ToolArgumentsInvalid):
        check_arguments({"query": "x" * MAX_ARGUMENT_BYTES}, FakeTool(parameters={"type": "object"}).spec)


def test_what_no_log_may_show_is_not_told_where_it_does_not_fit() -> None:
    tool = FakeTool(parameters=WITH_QUERY | {"not": {"required": ["pin"]}}, redacted_arguments=frozenset({"query"}))
    with pytest.raises(ToolArgumentsInvalid) as refused:
        check_arguments({"query": "a secret that is too long", "pin": 1}, tool.spec)
    assert "secret" not in refused.value.detail
    assert "secret" not in repr(refused.value.errors)
    assert "query: Does not fit `maxLength`" in refused.value.detail


def test_a_pattern_of_a_server_holds_up_nobody() -> None:
    tool = FakeTool(parameters={"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}})
    with pytest.raises(ToolArgumentsInvalid):
        check_arguments({"a": "a" * 60 + "!"}, tool.spec)
