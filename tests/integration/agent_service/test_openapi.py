"""The OpenAPI document says what the service does."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

OPEN = {"/health/live", "/health/ready", "/metrics"}


@pytest.fixture
async def document(agent: httpx.AsyncClient) -> dict[str, Any]:
    body: dict[str, Any] = (await agent.get("/openapi.json")).json()
    return body


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


async def test_every_route_is_described(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path
        if path not in OPEN:
            assert operation["security"] == [{"bearer": []}], path
            assert {"401", "403", "503"} <= set(operation["responses"]), path
    identifiers = [operation["operationId"] for _, operation in operations(document)]
    assert sorted(identifiers) == sorted(set(identifiers))
    assert "chat" in identifiers


async def test_a_turn_names_its_events_and_its_problems(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/chat"]["post"]["responses"]
    assert {"200", "400", "401", "403", "413", "422", "429", "502", "503", "504"} <= set(responses)
    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
    schemas = document["components"]["schemas"]
    assert {"ChatEvent", "DeltaEvent", "UsageEvent", "DoneEvent", "ErrorEvent", "ChatAnswer"} <= set(schemas)


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for item in node for found in references(item)] if isinstance(node, list) else []

    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
