"""The documents say what is true: the README's conversation is held, and what they name is there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from agent_service.config import AgentSettings
from agent_service.main import create_app as create_agent
from chat_api.config import ApiSettings
from chat_api.main import create_app as create_chat_api
from shared.settings import Environment
from tests.factories.chat import Event, joined_text, parse_events
from tests.factories.served import served
from tests.fakes.scripted_model import ScriptedModelServer
from tests.stores import Database

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 300

_TESTED = re.compile(r"<!-- tested: ([a-z-]+) -->\n```sh\n(.*?)```", re.DOTALL)
_FENCED = re.compile(r"^ *```\w*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")

BLOCKS = dict(_TESTED.findall(README))
ADDRESS = "http://127.0.0.1:8000"
# The scripted model would have said it before anybody can cancel; and the local one knows no directives.
LONG = "Tell me a long story."
SLOWLY = "[[script tokens=400 delay_ms=100]]"
SUM = "What is 17 * 23?"
CALLS = json.dumps('[[script call=calculator args="{\\"expression\\": \\"17 * 23\\"}"]]')[1:-1]


@pytest.fixture
def address(clean_database: Database, redis_url: str, tmp_path: Path) -> Iterator[str]:
    """A chat API and an agent behind real sockets, with a scripted model in OpenAI's place."""
    with ScriptedModelServer() as model:
        agent = AgentSettings(
            _env_file=None,
            environment=Environment.TEST,
            data_dir=tmp_path,
            agent_database_url=SecretStr(clean_database.agent_url),
            default_provider="openai",
            openai_api_key="nobody-checks-this-one",
            openai_base_url=model.openai_url,
        )
        with served(create_agent(agent)) as agent_url:
            settings = ApiSettings(
                _env_file=None,
                environment=Environment.TEST,
                data_dir=tmp_path,
                database_url=SecretStr(clean_database.api_url),
                redis_url=SecretStr(redis_url),
                agent_url=agent_url,
            )
            with served(create_chat_api(settings)) as chat_api_url, _worker(settings):
                yield chat_api_url


@contextlib.contextmanager
def _worker(settings: ApiSettings) -> Iterator[None]:
    """The worker in a process of its own, as everywhere."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    variables = {
        "COLLOQUY_ENVIRONMENT": "test",
        "COLLOQUY_DATA_DIR": str(settings.data_dir),
        "COLLOQUY_DATABASE_URL": settings.database_url.get_secret_value(),
        "COLLOQUY_REDIS_URL": settings.redis_url.get_secret_value(),
        "COLLOQUY_AGENT_URL": settings.agent_base_url,
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "chat_api", "worker"],
        env={**os.environ, **variables},
        cwd=settings.data_dir,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        try:
            yield
        finally:
            worker.terminate()


def test_every_curl_command_of_the_readme_is_tried() -> None:
    with_curl = [block for block in _FENCED.findall(README) if re.search(r"\b(curl|ask)\b", block)]
    assert with_curl == list(BLOCKS.values())


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's commands need curl")
def test_the_first_conversation(address: str) -> None:
    said = _run(BLOCKS, address)

    assert json.loads(said["sign-in"])["username"] == "ada"

    exchanged = json.loads(said["json"])
    assert exchanged["run"]["status"] == "completed"
    assert exchanged["reply"]["content"] == "You said: Say hello in one sentence."

    streamed = parse_events(said["stream"].encode())
    assert [event.id for event in streamed] == list(range(1, len(streamed) + 1))
    assert streamed[-1].type == "run.completed"
    assert joined_text(streamed) == _reply(streamed) == "You said: And in two sentences?"

    resumed = parse_events(said["resume"].encode())
    assert [event.id for event in resumed] == list(range(4, len(resumed) + 4))
    assert resumed[-1].type == "run.completed"
    assert joined_text(resumed) == _reply(resumed) == "You said: Name three colours."

    asked, _, followed = said["cancel"].partition("id: 1\n")
    assert json.loads(asked)["status"] in ("running", "cancelled")
    cancelled = parse_events(f"id: 1\n{followed}".encode())
    assert cancelled[-1].type == "run.cancelled"
    assert len(_reply(cancelled)) < len(" ".join(f"word{number}" for number in range(400)))

    window = json.loads(said["history"])
    assert [message["seq"] for message in window["items"]] == list(range(1, 9))

    watched = [json.loads(line[6:]) for line in said["watch"].splitlines() if line.startswith("data: ")]
    assert watched[-1]["status"] == "ready"
    found = json.loads(said["search"])["passages"]
    assert "twelve crowns" in found[0]["text"]
    [cited] = json.loads(said["ask"])["reply"]["citations"]
    assert cited["document_name"] == "harbour.md"
    assert cited["chunk_id"] == found[0]["chunk_id"]

    waiting = json.loads(said["call"])
    assert (waiting["status"], waiting["arguments"]) == ("pending_approval", {"expression": "17 * 23"})
    approved, _, followed = said["approve"].partition("id: 8\n")
    assert json.loads(approved)["status"] == "approved"
    went_on = parse_events(f"id: 8\n{followed}".encode())
    assert [event.type for event in went_on[:3]] == ["run.started", "tool.started", "tool.completed"]
    assert went_on[-1].type == "run.completed"
    assert "391" in _reply(went_on)
    [choice] = json.loads(said["door"])["choices"]
    assert choice["message"]["annotations"]

    _found_counted_and_kept(said)


def _found_counted_and_kept(said: dict[str, str]) -> None:
    found, counted, used = _documents(said["find"])
    assert "boat" in "".join(part["text"] for part in found["items"][0]["snippet"] if part["matched"])
    assert (counted["messages"]["user"], counted["messages"]["assistant"]) == (1, 1)
    assert used["totals"]["runs"]["total"] >= 6
    assert used["groups"]

    imported, restored = _documents(said["keep"])
    assert (imported["imported"], imported["messages"]) == (1, 2)
    assert restored["message_count"] == 2
    [usage] = _documents(said["plan"])
    assert usage["messages"]["used"] >= 6


def _documents(printed: str) -> list[Any]:
    """JSON documents that stand one behind the other."""
    decoder, read, at = json.JSONDecoder(), [], 0
    while at < len(printed.rstrip()):
        document, at = decoder.raw_decode(printed, at + len(printed[at:]) - len(printed[at:].lstrip()))
        read.append(document)
    return read


def _reply(events: list[Event]) -> str:
    """The whole reply, as the event before the last one has it."""
    assert events[-2].type == "message.updated"
    content: str = events[-2].data["content"]
    return content


def _run(blocks: dict[str, str], address: str) -> dict[str, str]:
    """The blocks in one shell, as a reader would paste them; what each printed."""
    mark = "==== "
    script = "set -eu\n" + "".join(f"echo; echo '{mark}{name}'\n{block}" for name, block in blocks.items())
    assert script.count(ADDRESS) == 1, "the address stands in one place, where a reader changes it"
    assert script.count(LONG) == script.count(SUM) == 1
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace(ADDRESS, address).replace(LONG, SLOWLY).replace(SUM, CALLS)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    parts = [part.split("\n", 1) for part in done.stdout.split(mark)[1:]]
    return {name: printed.strip() + "\n\n" for name, printed in parts}


def test_the_figures_are_those_of_the_benchmarks() -> None:
    """Columns "ours" and "beside it", and the ratios: as they stand in docs/benchmarks.md."""
    measured = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    table = README.split("## Figures", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")][2:]
    assert rows
    for _, ours, beside, held, _ in rows:
        for figure in re.findall(r"\d[\d,.]*\d", f"{ours} {beside.replace('10,000', '')} {held.split('goal')[0]}"):
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?!\d)", measured), (
                f"{figure} is not in docs/benchmarks.md"
            )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue  # an address of the world outside
        file = (document.parent / path) if path else document
        assert file.exists(), f"{target} is not there"
        if anchor:
            assert anchor in _anchors(file), f"{target} has no such heading"


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_is_there(document: Path) -> None:
    """Files of the tests, goals of make, settings, modules of the benchmarks."""
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|chat_api|agent_service|shared|deploy|migrations|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{path} is not there"
    for module in re.findall(r"-m (benchmarks[\w.]*)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists() or module == "benchmarks", f"no module {module}"
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for goal in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
        assert goal in goals, f"make knows no {goal}"
    known = _settings()
    for name in re.findall(r"\b(?:COLLOQUY|GOOGLE|OPENAI)_[A-Z_]+[A-Z]\b", text):
        assert name in known, f"{name} is no setting"


def _settings() -> set[Any]:
    """Every variable there is: settings, what commands, Compose and roles.sql read, and how thorough a test run is."""
    commands = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "chat_api" / "cli").glob("*.py"))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    compose = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8")
    roles = (ROOT / "deploy" / "roles.sql").read_text(encoding="utf-8")
    stores = (ROOT / "tests" / "stores.py").read_text(encoding="utf-8")
    return (
        set(re.findall(r"^# ?([A-Z_]+)=", example, re.MULTILINE))
        | set(re.findall(r"^#? ?([A-Z_]+)=", compose, re.MULTILINE))
        | set(re.findall(r'envvar="([A-Z_]+)"', commands))
        | set(re.findall(r"getenv \w+ ([A-Z_]+)", roles))
        | set(re.findall(r'"(COLLOQUY_[A-Z_]+)"', stores))
    )
