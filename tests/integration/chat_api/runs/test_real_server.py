"""A session uses an MCP server that others wrote: called by the model, approved by a person, told in the reply."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from agent_service.config import AgentSettings
from agent_service.main import create_app as create_agent
from chat_api.config import ApiSettings
from chat_api.main import create_app as create_chat_api
from shared.contracts.chat import Provider
from shared.settings import Environment
from tests.factories.served import served
from tests.fakes.scripted_model import ScriptedModelServer
from tests.stores import Database

CONVERT = """[[script call=time__convert_time
 args='{"source_timezone": "Europe/Oslo", "time": "12:00", "target_timezone": "Asia/Tokyo"}' text="{results}"]]"""


def ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    until = time.monotonic() + 10
    while (run := client.get(f"/runs/{run_id}").json())["status"] not in ("completed", "failed", "cancelled"):
        assert time.monotonic() < until, run
        time.sleep(0.02)
    found: dict[str, Any] = run
    return found


@pytest.mark.slow
def test_a_session_uses_a_server_that_others_wrote(clean_database: Database, redis_url: str, tmp_path: Path) -> None:
    config = tmp_path / "servers_config.json"
    config.write_bytes(
        orjson.dumps({"mcpServers": {"time": {"command": sys.executable, "args": ["-m", "mcp_server_time"]}}})
    )
    with ScriptedModelServer() as model:
        agent = AgentSettings(
            _env_file=None,
            environment=Environment.TEST,
            data_dir=tmp_path,
            default_provider=Provider.OPENAI,
            openai_api_key=SecretStr("nobody-checks-this-one"),
            openai_base_url=model.openai_url,
            mcp_config=config,
        )
        with served(create_agent(agent)) as agent_url:
            api = ApiSettings(
                _env_file=None,
                environment=Environment.TEST,
                data_dir=tmp_path,
                database_url=SecretStr(clean_database.api_url),
                redis_url=SecretStr(redis_url),
                agent_url=agent_url,
            )
            with (
                served(create_chat_api(api)) as address,
                httpx.Client(base_url=f"{address}/api/v1", timeout=20) as client,
            ):
                person = {"email": "ann@example.org", "username": "ann", "password": "a long pass phrase"}
                assert client.post("/auth/register", json=person).status_code == 201
                token = client.post("/auth/token", data={"username": "ann", "password": person["password"]}).json()
                client.headers["Authorization"] = f"Bearer {token['access_token']}"
                session = client.post("/sessions", json={"settings": {"tools": ["mcp:time"]}}).json()["id"]

                said = client.post(f"/sessions/{session}/messages", json={"content": CONVERT}).json()

                assert said["run"]["status"] == "awaiting_approval"
                [call] = client.get(f"/sessions/{session}/tool-executions").json()["items"]
                assert (call["source"], call["risk"], call["attempts"]) == ("mcp:time", "risky", 0)
                assert client.post(f"/tool-executions/{call['id']}/approve").status_code == 200
                assert ended(client, said["run"]["id"])["status"] == "completed"
                reply = client.get(f"/sessions/{session}/messages").json()["items"][-1]
                assert "Asia/Tokyo" in reply["content"]
                assert reply["tools_used"] == ["time__convert_time"]
