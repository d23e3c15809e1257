"""The official `openai` client at the chat API's door, with the agent behind it and the scripted model behind that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from pydantic import SecretStr

import agent_service.main
import chat_api.main
from agent_service.adapters.wiring import Parts, assemble
from agent_service.config import AgentSettings
from chat_api.config import ApiSettings
from shared.settings import Environment
from tests.factories.openai_clients import impatient
from tests.factories.passages import blocks, service_headers
from tests.factories.served import served
from tests.fakes.embedder import HashingEmbedder
from tests.fakes.password_hasher import RecordingHasher
from tests.fakes.scripted_model import ScriptedModelServer
from tests.stores import Database

API = "/api/v1"
PASSWORD = "correct horse battery staple"
FACT = "The harbour closes at ten in the evening."
QUESTION = "When does the harbour close?"
MODEL = "openai:scripted"
CALL = """[[script call=weather args='{"city": "Oslo"}' call=clock]]"""
TOOLS: Any = [{"type": "function", "function": {"name": name}} for name in ("weather", "clock")]


@dataclass(frozen=True)
class Door:
    """Where the chat API is, and somebody's access token there."""

    address: str
    token: str
    model: ScriptedModelServer
    http: httpx.Client
    agent: httpx.Client

    def post(self, path: str, body: Any) -> dict[str, Any]:
        answer = self.http.post(f"{API}{path}", json=body)
        assert answer.status_code in (201, 202), answer.text
        made: dict[str, Any] = answer.json()
        return made

    def bot(self, **fields: Any) -> str:
        """A bot that knows the fact; its id."""
        bot = self.post("/bots", {"name": "Guide", "provider": "openai", "model": "scripted", **fields})
        document = self.post(f"/bots/{bot['id']}/documents/text", {"name": "harbour.md", "text": FACT})
        # In place of the worker, which is not here.
        put = self.agent.put(
            f"/v1/collections/{bot['id']}/documents/{document['id']}",
            json={"name": "harbour.md", "version": 1, "blocks": blocks(FACT)},
            headers={"Accept": "application/json"},
        )
        assert put.status_code == 200, put.text
        return str(bot["id"])

    def turns(self) -> list[dict[str, Any]]:
        return [request for request in self.model.stats()["requests"] if request["protocol"] == "openai"]


def parts(settings: AgentSettings) -> Parts:
    return assemble(settings, HashingEmbedder())


@pytest.fixture(scope="module")
def whole(new_database: Callable[..., Database], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Both services as they are, on sockets."""
    database = new_database()
    folder = tmp_path_factory.mktemp("door")
    with ScriptedModelServer() as model:
        agent_settings = AgentSettings(
            _env_file=None,
            environment=Environment.TEST,
            data_dir=folder,
            local_model_path=folder / "none.gguf",
            openai_api_key="a key",
            openai_base_url=model.openai_url,
            agent_database_url=SecretStr(database.agent_url),
            # One call to the model per turn, so that a second one is the client's doing.
            model_attempts=1,
        )
        with served(agent_service.main.create_app(agent_settings, parts)) as agent:
            settings = ApiSettings(
                environment=Environment.TEST,
                data_dir=folder,
                database_url=SecretStr(database.api_url),
                redis_url=None,
                agent_url=agent,
            )
            app = chat_api.main.create_app(settings, passwords=RecordingHasher())
            with (
                served(app) as address,
                httpx.Client(base_url=address, trust_env=False, timeout=60) as http,
                httpx.Client(base_url=agent, trust_env=False, timeout=60, headers=service_headers()) as agent_http,
            ):
                account = {"email": "ann@example.org", "username": "ann", "password": PASSWORD}
                assert http.post(f"{API}/auth/register", json=account).status_code == 201
                signed_in = http.post(f"{API}/auth/token", data={"username": "ann", "password": PASSWORD})
                token = signed_in.json()["access_token"]
                http.headers["Authorization"] = f"Bearer {token}"
                # What a provider needs is loaded with its first turn, which takes seconds: no test may measure that.
                body = {"model": MODEL, "messages": asked("Are you there?")}
                assert http.post("/v1/chat/completions", json=body).status_code == 200
                yield Door(address, token, model, http, agent_http)


@pytest.fixture
def door(whole: Door) -> Door:
    whole.model.forget()
    return whole


@pytest.fixture
def client(door: Door) -> Iterator[openai.OpenAI]:
    key = door.post("/api-keys", {"name": "a program", "scopes": ["agent:invoke"]})["key"]
    with openai.OpenAI(base_url=f"{door.address}/v1", api_key=key) as client:
        yield client


def asked(content: str) -> list[Any]:
    return [{"role": "user", "content": content}]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_bot_answers_from_its_knowledge(client: openai.OpenAI, door: Door) -> None:
    bot = door.bot(system_prompt="You are the harbour's guide.")
    answer = client.chat.completions.create(
        model=f"bot:{bot}",
        messages=[
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": f'{QUESTION} [[script text="It closes at ten in the evening [1]."]]'},
        ],
    )

    message = answer.choices[0].message
    content = message.content or ""
    assert content == "It closes at ten in the evening [1]."
    [annotation] = message.annotations or []
    place = annotation.url_citation
    assert content[place.start_index : place.end_index] == "[1]"
    assert place.title == "harbour.md"
    assert door.http.get(place.url).json()["name"] == "harbour.md"
    assert (annotation.model_extra or {})["file_citation"]["snippet"] == FACT
    [turn] = door.turns()
    prompt = str(turn["body"]["messages"])
    assert FACT in prompt
    assert prompt.index("harbour's guide") < prompt.index("Answer in one sentence.")


async def test_a_bots_stream_ends_with_its_sources(door: Door) -> None:
    bot = door.bot()
    async with openai.AsyncOpenAI(base_url=f"{door.address}/v1", api_key=door.token) as client:
        stream = await client.chat.completions.create(
            model=f"bot:{bot}",
            messages=asked(f'{QUESTION} [[script text="At ten in the evening [1]."]]'),
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    assert text_of(chunks) == "At ten in the evening [1]."
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    [annotation] = (deltas[-2].model_extra or {})["annotations"]
    assert annotation["url_citation"]["title"] == "harbour.md"
    assert chunks[-1].usage is not None


def test_models_and_bots_are_listed_together(client: openai.OpenAI, door: Door) -> None:
    bot = f"bot:{door.bot(name='Pilot')}"

    listed = {model.id: model for model in client.models.list()}

    assert "openai:gpt-4o-mini" in listed
    assert listed[bot].owned_by == "colloquy"
    assert (client.models.retrieve(bot).model_extra or {})["name"] == "Pilot"
    assert client.models.retrieve("openai").id == "openai:gpt-4o-mini"
    for missing in ("bot:0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f", "bot:x", "nobody:any", "local"):
        if missing != "local":  # it embeds, though it does not talk
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve(missing)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=missing, messages=asked("Hello"))
    assert not door.turns()


@pytest.mark.parametrize("by_bot", [False, True])
def test_functions_of_the_caller(client: openai.OpenAI, door: Door, by_bot: bool) -> None:
    model = f"bot:{door.bot(configuration={'agent_type': 'chat'})}" if by_bot else MODEL
    messages = asked(f"Weather? {CALL}")
    first = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
    calls = first.choices[0].message.tool_calls or []

    assert first.choices[0].finish_reason == "tool_calls"
    assert len(calls) == 2
    messages += [first.choices[0].message]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": f"Answer {at}"} for at, call in enumerate(calls)]
    second = client.chat.completions.create(model=model, messages=messages, tools=TOOLS, stream=True)

    assert text_of(list(second)) == "Tools said: Answer 0 | Answer 1"


def test_embeddings(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model="local", input=["a", "b"], encoding_format="float")
    packed = client.embeddings.create(model="local", input=["a", "b"])

    assert floats.data[1].embedding == pytest.approx(packed.data[1].embedding, abs=1e-6)
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="another", input="a")
    assert missing.value.param == "model"
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="local", input="a", dimensions=3)


def test_a_stranger_is_not_let_in(door: Door) -> None:
    weak = door.post("/api-keys", {"name": "weak", "scopes": ["chat:read"]})["key"]
    for key, kind in (("sk-none", openai.AuthenticationError), (weak, openai.PermissionDeniedError)):
        with openai.OpenAI(base_url=f"{door.address}/v1", api_key=key) as client, pytest.raises(kind):
            client.models.list()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("status=500", openai.InternalServerError),
        ("status=429", openai.RateLimitError),
        ("status=404", openai.NotFoundError),
        ("drop_after=0", openai.InternalServerError),
    ],
)
def test_a_turn_that_failed_is_run_once(
    client: openai.OpenAI, door: Door, script: str, expected: type[openai.APIStatusError], stream: bool
) -> None:
    with pytest.raises(expected) as failed:
        client.chat.completions.create(
            model=MODEL, messages=asked(f"Hello, {stream} [[script {script}]]"), stream=stream
        )

    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(door.turns()) == 1


def test_a_client_that_loses_patience_runs_a_turn_once(client: openai.OpenAI, door: Door) -> None:
    with impatient(client) as hasty, pytest.raises(openai.ConflictError) as refused:
        hasty.chat.completions.create(model=MODEL, messages=asked("Patience [[script silent=1]]"))

    assert refused.value.code == "turn-already-begun"
    assert len(door.turns()) == 1
    deadline = time.monotonic() + 30
    while door.model.stats()["open"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert door.turns()[0]["state"] == "closed_by_client"
