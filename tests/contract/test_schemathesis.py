"""Generated requests against both services: no fault of ours, and only what the documents announce.

`COLLOQUY_SCHEMATHESIS_EXAMPLES=200 pytest tests/contract/test_schemathesis.py` looks much longer, and elsewhere
each time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
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

# A walk over all operations is one test: it takes 15 s, and on a busy machine ten times as long.
pytestmark = pytest.mark.timeout(600)

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
    """Somebody who calls the API, and has what a path names."""

    def __init__(self, served: ChatServed, name: str) -> None:
        self.settings = served.settings
        self._client = httpx.Client(base_url=served.address, trust_env=False, timeout=60)
        body = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        self.id: str = self.post("/auth/register", json=body)["id"]
        token = self.post("/auth/token", data={"username": name, "password": PASSWORD})["access_token"]
        self.headers = {"Authorization": f"Bearer {token}"}
        self._client.headers.update(self.headers)
        self._has = Belongings(self)

    def ids(self, names: Collection[str]) -> dict[str, str]:
        """Of what exists: made now, or since something was last changed."""
        return {name: self._has.id_of(name) for name in names}

    def changed_something(self) -> None:
        """What there was may be deleted: it is made anew when it is asked for."""
        self._has = Belongings(self)

    def get(self, path: str) -> Json:
        return self._read(self._client.get(f"{API}{path}"))

    def post(self, path: str, **sent: Any) -> Json:
        return self._read(self._client.post(f"{API}{path}", **sent))

    def delete(self, path: str) -> None:
        self._client.delete(f"{API}{path}")

    def _read(self, answer: httpx.Response) -> Json:
        assert answer.status_code in (200, 201, 202), answer.text
        body: Json = answer.json()
        return body

    def close(self) -> None:
        self._client.close()


class Belongings:
    """What somebody has, each thing made when it is first asked for: an operation names one or two of them."""

    def __init__(self, person: Person) -> None:
        self._person = person

    def id_of(self, name: str) -> str:
        """The value of a path's parameter. Raises `KeyError` for one that nobody has taught it."""
        making: dict[str, Callable[[], str]] = {
            "session_id": lambda: self._session,
            "message_id": lambda: self._said["message"]["id"],
            "run_id": lambda: self._said["run"]["id"],
            "execution_id": lambda: self._call,
            "key_id": lambda: self._made("/api-keys", json={"name": "generated", "scopes": ["chat:read"]}),
            "bot_id": lambda: self._bot,
            "user_id": lambda: self._person.id,
            "document_id": lambda: self._made(
                f"/bots/{self._bot}/documents/text", json={"name": "a.md", "text": "Generated"}
            ),
            "attachment_id": lambda: self._made("/attachments", files={"file": ("a.txt", b"Generated")}),
            "snapshot_id": lambda: self._made(f"/sessions/{self._session}/snapshots", json={}),
            "webhook_id": lambda: self._hook,
            "delivery_id": lambda: self._made(f"/webhooks/{self._hook}/test"),
            "model_id": lambda: f"bot:{self._bot}",
            "emoji": lambda: "\N{THUMBS UP SIGN}",
        }
        return making[name]()

    @cached_property
    def _session(self) -> str:
        return self._made("/sessions", json={"title": "Generated"})

    @cached_property
    def _said(self) -> Json:
        return self._person.post(f"/sessions/{self._session}/messages", json={"content": "Hello"})

    @cached_property
    def _bot(self) -> str:
        return self._made("/bots", json={"name": "Generated"})

    @cached_property
    def _hook(self) -> str:
        for earlier in self._person.get("/webhooks")["items"]:
            # There may be 20 of a person, and more are generated.
            self._person.delete(f"/webhooks/{earlier['id']}")
        return self._made("/webhooks", json={"url": "https://hooks.example.com/"})

    @cached_property
    def _call(self) -> str:
        return asyncio.run(self._waiting_call())

    def _made(self, path: str, **sent: Any) -> str:
        made: str = self._person.post(path, **sent)["id"]
        return made

    async def _waiting_call(self) -> str:
        database = await ApiDatabase.open(self._person.settings)
        try:
            return str(await tool_call(Rows(database), UUID(self._session), UUID(self._said["run"]["id"])))
        finally:
            await database.close()


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

    def explore(
        self, ids: Callable[[Collection[str]], dict[str, str]], changed_something: Callable[[], None] = lambda: None
    ) -> list[str]:
        """What was wrong. `ids` gives those that exist, for the paths of good requests.

        `changed_something` is told after whatever may have deleted what they name.
        """
        failures = []
        with self._session:
            operations = []
            for found in self._schema.get_all_operations():
                assert isinstance(found, Ok), str(found)
                operations.append(found.ok())
            for operation in sorted(operations, key=lambda each: each.label == ENDS_THE_ACCOUNT):
                if self._mode is GenerationMode.NEGATIVE and not takes_anything(operation):
                    continue
                is_good = self._mode is GenerationMode.POSITIVE
                known = ids([named.name for named in operation.path_parameters]) if is_good else {}
                try:
                    self._explore(operation, known)
                except FailureGroup as group:
                    failures += [f"{operation.label}: {failure.title}: {failure}" for failure in group.exceptions]
                if is_good and operation.method.upper() != "GET":
                    changed_something()
        return failures

    def _explore(self, operation: Any, known: dict[str, str]) -> None:
        @settings(
            # To make up what is wrong costs three quarters of the time, and `test_bad_input` says more of it.
            max_examples=EXAMPLES if self._mode is GenerationMode.POSITIVE else EXAMPLES // 2,
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
            response = case.call(session=self._session, headers=self._headers, timeout=60)
            # Where the credential that is missing is all that is wrong, ours has put it right.
            is_ours = "Authorization" not in (case.headers or {})
            unjust = {negative_data_rejection} if is_ours else set()
            case.validate_response(response, checks=[check for check in CHECKS if check not in unjust])

        call()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_the_chat_api_answers_as_it_says(chat_document: Json, chat_served: ChatServed, mode: GenerationMode) -> None:
    with closing(Person(chat_served, f"person-{mode.value}")) as person:
        explorer = Explorer(chat_document, chat_served.address, mode, person.headers)
        failures = explorer.explore(person.ids, person.changed_something)

    assert not failures, "\n\n".join(failures)
    assert explorer.calls >= 25 * EXAMPLES // 2


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_the_agent_answers_as_it_says(agent_document: Json, agent_address: str, mode: GenerationMode) -> None:
    signer = service_signer(DEVELOPMENT_SERVICE_KEY, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    explorer = Explorer(agent_document, agent_address, mode, {"Authorization": f"Bearer {signer.mint('chat_api')}"})

    known = {"model_id": "openai", "name": "calculator"}
    failures = explorer.explore(lambda names: {name: known.get(name) or str(uuid4()) for name in names})

    assert not failures, "\n\n".join(failures)
    assert explorer.calls >= EXAMPLES
