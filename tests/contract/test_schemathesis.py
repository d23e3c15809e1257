"""Generated requests against both services: no fault of ours, and only what the documents announce.

`COLLOQUY_SCHEMATHESIS_EXAMPLES=200 pytest tests/contract/test_schemathesis.py` looks much longer, and elsewhere
each time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import agent_service.main
import chat_api.main
from agent_service.adapters.wiring import Parts, assemble
from agent_service.config import AgentSettings
from chat_api.config import ApiSettings
from chat_api.kit.db import Database as ApiDatabase
from shared.security import ServiceName, service_signer
from shared.settings import DEVELOPMENT_SERVICE_KEY, Environment
from tests.factories.served import served
from tests.factories.tool_calls import tool_call
from tests.fakes.agent import ScriptedAgent
from tests.fakes.embedder import QuickEmbedder
from tests.fakes.password_hasher import RecordingHasher
from tests.fakes.scripted_model import ScriptedModelServer
from tests.stores import Database

Json = dict[str, Any]

DEFAULT_EXAMPLES = 4
EXAMPLES = int(os.environ.get("COLLOQUY_SCHEMATHESIS_EXAMPLES", DEFAULT_EXAMPLES))
API = "/api/v1"
PASSWORD = "correct horse battery staple"
PASSWORDS = RecordingHasher()
ENDS_THE_ACCOUNT = f"DELETE {API}/users/me"
"""To be called last: a generated body may be right."""
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
)

# A body that is too long for a field may be too long altogether.
REFUSALS = ["400", "401", "403", "404", "409", "413", "415", "422"]
CONFIG = SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}})


@schemathesis.deserializer("text/event-stream", "text/plain")
def _text(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> str:
    return response.text


@dataclass(frozen=True)
class ChatServed:
    address: str
    settings: ApiSettings


@dataclass(frozen=True)
class Rows:
    """What stands in the database without a route that puts it there."""

    database: ApiDatabase

    async def rows(self, statement: str, *args: Any) -> list[Any]:
        return await self.database.fetch_rows(statement, *args)


class Person:
    """Somebody with a conversation, made anew for each operation: the one before may have deleted it."""

    def __init__(self, served: ChatServed, name: str) -> None:
        self._settings = served.settings
        self._client = httpx.Client(base_url=served.address, trust_env=False, timeout=10)
        body = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        self._post("/auth/register", json=body)
        token = self._post("/auth/token", data={"username": name, "password": PASSWORD})["access_token"]
        self.headers = {"Authorization": f"Bearer {token}"}
        self._client.headers.update(self.headers)

    def conversation(self) -> dict[str, str]:
        session = self._post("/sessions", json={"title": "Generated"})
        said = self._post(f"/sessions/{session['id']}/messages", json={"content": "Hello"})
        key = self._post("/api-keys", json={"name": "generated", "scopes": ["chat:read"]})
        bot = self._post("/bots", json={"name": "Generated"})
        document = self._post(f"/bots/{bot['id']}/documents/text", json={"name": "a.md", "text": "Generated"})
        attachment = self._post("/attachments", files={"file": ("a.txt", b"Generated")})
        for earlier in self._client.get(f"{API}/webhooks").json()["items"]:
            # There may be 20 of a person, and there are more operations.
            self._client.delete(f"{API}/webhooks/{earlier['id']}")
        hook = self._post("/webhooks", json={"url": "https://hooks.example.com/"})
        return {
            "session_id": session["id"],
            "message_id": said["message"]["id"],
            "run_id": said["run"]["id"],
            "execution_id": asyncio.run(self._waiting_call(UUID(session["id"]), UUID(said["run"]["id"]))),
            "key_id": key["id"],
            "bot_id": bot["id"],
            "user_id": session["owner_id"],
            "document_id": document["id"],
            "attachment_id": attachment["id"],
            "snapshot_id": self._post(f"/sessions/{session['id']}/snapshots", json={})["id"],
            "webhook_id": hook["id"],
            "delivery_id": self._post(f"/webhooks/{hook['id']}/test")["id"],
            "model_id": f"bot:{bot['id']}",
            "emoji": "\N{THUMBS UP SIGN}",
        }

    async def _waiting_call(self, session_id: UUID, run_id: UUID) -> str:
        database = await ApiDatabase.open(self._settings)
        try:
            return str(await tool_call(Rows(database), session_id, run_id))
        finally:
            await database.close()

    def _post(self, path: str, **sent: Any) -> Json:
        answer = self._client.post(f"{API}{path}", **sent)
        assert answer.status_code in (200, 201, 202), answer.text
        body: Json = answer.json()
        return body

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def chat_served(new_database: Callable[..., Database]) -> Iterator[ChatServed]:
    database = new_database()
    loaded = ApiSettings(
        environment=Environment.TEST,
        database_url=SecretStr(database.api_url),
        redis_url=None,
        # Each generated call reads its stream to the end.
        document_watch_seconds=0.05,
    )
    app = chat_api.main.create_app(loaded, agent_transport=ScriptedAgent(), passwords=PASSWORDS)
    with served(app) as address:
        yield ChatServed(address, loaded)


def parts(settings: AgentSettings) -> Parts:
    return assemble(settings, QuickEmbedder())


@pytest.fixture(scope="module")
def agent_address(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Database]) -> Iterator[str]:
    database = new_database()
    with ScriptedModelServer() as model:
        folder = tmp_path_factory.mktemp("agent")
        loaded = AgentSettings(
            _env_file=None,
            environment=Environment.TEST,
            data_dir=folder,
            local_model_path=folder / "none.gguf",
            default_provider="openai",
            openai_api_key="a key",
            openai_base_url=model.openai_url,
            google_api_key="a key",
            google_gemini_base_url=model.gemini_url,
            model_retry_base_seconds=0.01,
            agent_database_url=SecretStr(database.agent_url),
        )
        with served(agent_service.main.create_app(loaded, parts)) as address:
            yield address


def takes_anything(operation: Any) -> bool:
    """Whether there is anything to get wrong."""
    return bool(operation.body) or any(operation.iter_parameters())


class Explorer:
    """Calls every operation of a document with generated data, and keeps what was wrong with the answers."""

    def __init__(self, document: Json, address: str, mode: GenerationMode, headers: Mapping[str, str]) -> None:
        self._schema = schemathesis.openapi.from_dict(document, config=CONFIG)
        self._schema.config.update(base_url=address)
        self._mode = mode
        self._headers = dict(headers)
        self._session = requests.Session()
        self._session.trust_env = False
        self.calls = 0

    def explore(self, values: Callable[[], dict[str, str]]) -> list[str]:
        """What was wrong. `values` gives ids that exist, for the paths of good requests."""
        failures = []
        with self._session:
            operations = []
            for found in self._schema.get_all_operations():
                assert isinstance(found, Ok), str(found)
                operations.append(found.ok())
            for operation in sorted(operations, key=lambda each: each.label == ENDS_THE_ACCOUNT):
                if self._mode is GenerationMode.NEGATIVE and not takes_anything(operation):
                    continue
                known = values() if operation.path_parameters else {}
                try:
                    self._explore(operation, known)
                except FailureGroup as group:
                    failures += [f"{operation.label}: {failure.title}: {failure}" for failure in group.exceptions]
        return failures

    def _explore(self, operation: Any, known: dict[str, str]) -> None:
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=EXAMPLES == DEFAULT_EXAMPLES,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=self._mode))
        def call(case: schemathesis.Case[Any]) -> None:
            self.calls += 1
            if self._mode is GenerationMode.POSITIVE:
                case.path_parameters = {name: known[name] for name in case.path_parameters or {}}
            response = case.call(session=self._session, headers=self._headers)
            case.validate_response(response, checks=[*CHECKS])

        call()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_the_chat_api_answers_as_it_says(chat_document: Json, chat_served: ChatServed, mode: GenerationMode) -> None:
    with closing(Person(chat_served, f"person-{mode.value}")) as person:
        explorer = Explorer(chat_document, chat_served.address, mode, person.headers)
        failures = explorer.explore(person.conversation)

    assert not failures, "\n\n".join(failures)
    assert explorer.calls >= 25 * EXAMPLES // 2


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_the_agent_answers_as_it_says(agent_document: Json, agent_address: str, mode: GenerationMode) -> None:
    signer = service_signer(DEVELOPMENT_SERVICE_KEY, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    explorer = Explorer(agent_document, agent_address, mode, {"Authorization": f"Bearer {signer.mint('chat_api')}"})

    failures = explorer.explore(
        lambda: {"collection_id": str(uuid4()), "document_id": str(uuid4()), "model_id": "openai", "name": "calculator"}
    )

    assert not failures, "\n\n".join(failures)
    assert explorer.calls >= EXAMPLES
