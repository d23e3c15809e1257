"""`servers_config.json`: what it may say, and how it is told what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_service.adapters.mcp_config import MAX_FILE_BYTES, HttpServer, StdioServer, load_mcp_servers
from agent_service.adapters.mcp_wiring import mcp_sources
from agent_service.config import AgentSettings
from shared.contracts.tools import ToolSourceState
from shared.settings import SettingsError

ENVIRONMENT = {"TOKEN": "secret-of-the-environment", "OTHER": "not to be given away", "SPLIT": "two\nlines"}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "servers_config.json"


def load(path: Path, servers: Any) -> dict[str, StdioServer | HttpServer]:
    path.write_text(json.dumps({"mcpServers": servers}))
    return load_mcp_servers(path, ENVIRONMENT)


def refusal(path: Path, content: str) -> str:
    path.write_text(content)
    with pytest.raises(SettingsError) as refused:
        load_mcp_servers(path, ENVIRONMENT)
    assert str(path) in str(refused.value)
    assert "secret" not in str(refused.value)
    return str(refused.value)


def test_both_kinds_of_servers(written: Path) -> None:
    servers = load(
        written,
        {
            "files": {"command": "files-server", "args": ["--root", "/data"], "env": {"KEY": "a ${TOKEN} b"}},
            "wiki": {"url": "https://wiki.example/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
        },
    )

    files, wiki = servers["files"], servers["wiki"]
    assert isinstance(files, StdioServer)
    assert isinstance(wiki, HttpServer)
    assert files.args == ["--root", "/data"]
    assert files.env["KEY"].get_secret_value() == "a secret-of-the-environment b"
    assert wiki.headers["Authorization"].get_secret_value() == "Bearer secret-of-the-environment"
    assert (files.tools, files.safe, files.repeatable, files.timeout_seconds) == (None, frozenset(), frozenset(), None)


def test_no_secret_stands_in_what_it_looks_like(written: Path) -> None:
    servers = load(
        written,
        {
            "a": {"command": "x", "env": {"KEY": "${TOKEN}"}},
            "b": {"url": "http://x/mcp", "headers": {"Authorization": "${TOKEN}"}},
        },
    )

    assert "secret-of" not in repr(servers)
    assert "secret-of" not in str([server.model_dump_json() for server in servers.values()])


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"command": "x", "arguments": []}, "server `wiki`: `arguments`: there is no such key"),
        ({"url": "http://x/mcp", "command": "x"}, "server `wiki`: `command`: there is no such key"),
        ({"args": []}, "server `wiki`: `command`: Field required"),
        ({"command": ""}, "server `wiki`: `command`:"),
        ({"command": "x", "env": {"KEY": 1}}, "server `wiki`: `env.KEY`:"),
        ({"command": "x", "env": {"KEY": "${secret_missing}"}}, None),
        ({"command": "x", "env": {"A=B": "c"}}, "server `wiki`: `env."),
        ({"url": "ftp://x"}, "server `wiki`: `url`:"),
        ({"url": "http://x", "headers": {"a b": "c"}}, "server `wiki`: `headers."),
        ({"url": "http://x", "headers": {"Authorization": "${SPLIT}"}}, "`headers.Authorization` holds a character"),
        ({"command": "x", "timeout_seconds": 0}, "server `wiki`: `timeout_seconds`:"),
        ({"command": "x", "tools": ["a"], "safe": ["b"]}, "server `wiki`: `b` is not among its `tools`"),
        ("x", "server `wiki`:"),
        (None, "server `wiki`:"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_with_server_and_key(written: Path, server: Any, told: str | None) -> None:
    if told is None:
        written.write_text(json.dumps({"mcpServers": {"wiki": server}}))
        with pytest.raises(SettingsError, match=r"server `wiki`: `env.KEY` refers to `secret_missing`"):
            load_mcp_servers(written, ENVIRONMENT)
        return
    assert told in refusal(written, json.dumps({"mcpServers": {"wiki": server}}))


def test_every_cause_is_told_at_once(written: Path) -> None:
    told = refusal(written, json.dumps({"mcpServers": {"a": {"cmd": "x"}, "b": {"url": "x"}}}))

    assert len(told.splitlines()) == 3  # a has no command either


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "not JSON"),
        ('{"mcpServers": {"a": {"command": "secret"}}', "line 1, column"),
        ("[]", "valid dictionary"),
        ("{}", "`mcpServers`"),
        ('{"mcpServers": {}, "servers": {}}', "`servers`: there is no such key"),
        ('{"mcpServers": {"a b": {"command": "x"}}}', "server `a b`"),
        ("x" * (MAX_FILE_BYTES + 1), "larger than"),
    ],
    ids=["empty", "cut off", "an array", "nothing", "another key", "a bad name", "huge"],
)
def test_files_that_are_none(written: Path, content: str, told: str) -> None:
    assert told in refusal(written, content)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the file cannot be read: No such file"):
        mcp_sources(AgentSettings(_env_file=None, mcp_config=tmp_path / "none.json"))


def test_without_a_file_there_are_no_servers() -> None:
    assert mcp_sources(AgentSettings(_env_file=None)) == []


def test_the_example_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKI_TOKEN", "x")
    example = Path(__file__).parents[4] / "servers_config.example.json"
    assert set(load_mcp_servers(example)) == {"time", "wiki"}


async def test_nothing_is_started_by_reading(written: Path) -> None:
    load(written, {"a": {"command": "x"}})

    (source,) = mcp_sources(AgentSettings(_env_file=None, mcp_config=written))

    assert source.name == "mcp:a"
    assert source.state().state is ToolSourceState.STARTING
    assert list(source.tools()) == []
