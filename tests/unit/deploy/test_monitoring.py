"""The rules and the board ask for what there is: every metric and label that they name is one that a process shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from agent_service.config import AgentSettings
from agent_service.main import create_app as create_agent
from chat_api.config import ApiSettings
from chat_api.main import create_app as create_api

MONITORING = Path(__file__).resolve().parents[3] / "deploy" / "monitoring"
COMPOSE = MONITORING.parents[1] / "docker-compose.yml"
BOARD: dict[str, Any] = json.loads((MONITORING / "grafana" / "dashboards" / "colloquy.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((MONITORING / "rules.yml").read_text())

# What Prometheus adds to what it scrapes.
_OF_PROMETHEUS = {"job", "instance"}


def of_rules() -> Iterator[tuple[str, str]]:
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def of_board() -> Iterator[tuple[str, str]]:
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            # What the board puts in its place.
            yield f"{panel['title']} {target['refId']}", target["expr"].replace("$__rate_interval", "1m")


EXPRESSIONS = [*of_rules(), *of_board()]


@pytest.fixture(scope="module")
def shown() -> dict[str, set[str]]:
    """Name of each series that our processes can show → its labels."""
    api = create_api(ApiSettings())
    # What is made when there is a database to look at.
    from chat_api.telemetry import Backlog

    Backlog(api.state.metrics, None, None)  # type: ignore[arg-type]  # it is only asked for its names
    agent = create_agent(AgentSettings())
    found: dict[str, set[str]] = {"up": set()}
    for registry in (api.state.metrics, agent.state.agent.registry):
        found |= series_of(registry)
    return found


def series_of(registry: CollectorRegistry) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        names = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}.get(family.type, ("",))
        # What the process itself shows has none, and is known to the registry by no name.
        collector = registry._names_to_collectors.get(family.name)
        labels = set(getattr(collector, "_labelnames", ()))
        for ending in names:
            found[family.name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    return found


def selectors(expression: Any) -> Iterator[promql_parser.VectorSelector]:
    """Every series that an expression asks for."""
    found: list[promql_parser.VectorSelector] = []

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(expression, look)
    yield from found


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_it_asks_for_what_there_is(name: str, expression: str, shown: dict[str, set[str]]) -> None:
    asked = list(selectors(promql_parser.parse(expression)))
    assert asked, name
    for selector in asked:
        assert selector.name in shown
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= shown[selector.name] | _OF_PROMETHEUS
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        available = set().union(*(shown[selector.name or ""] for selector in asked)) | _OF_PROMETHEUS
        assert {label.strip() for label in grouped.split(",")} <= available


def test_names_are_seen_to_be_wrong(shown: dict[str, set[str]]) -> None:
    """The test above would be worth nothing if everything were known."""
    (selector,) = selectors(promql_parser.parse('sum(rate(http_requests_total{status="500"}[5m]))'))
    assert selector.name not in shown
    assert shown["http_request_duration_seconds_bucket"] == {"method", "route", "status", "le"}
    assert shown["agent_turns_total"] == {"provider", "outcome"}


def test_every_alert_says_what_it_is_and_is_explained() -> None:
    explained = (MONITORING.parents[1] / "docs" / "operations.md").read_text()
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"]["summary"]
            assert f"`{rule['alert']}`" in explained


def test_prometheus_asks_every_process() -> None:
    scraped = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert targets["api"] == [f"{name}:8000" for name in services if name.startswith("api-")]
    assert targets["worker"] == [f"worker:{services['worker']['environment']['COLLOQUY_WORKER_PORT']}"]
    assert targets["agent"] == [f"agent:{services['agent']['environment']['COLLOQUY_AGENT_PORT']}"]
    asked = {word for _, expression in EXPRESSIONS for word in re.findall(r'job=~?"([^"]*)"', expression)}
    assert {job for words in asked for job in words.split("|")} <= targets.keys()


def test_the_board_can_be_read() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool (Debian: prometheus)")
@pytest.mark.parametrize("arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "rules_test.yml")])
def test_prometheus_takes_them(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
