"""The official `openai` client at the agent's door, unmodified, over a real socket, before the scripted model."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

import agent_service.main
from agent_service.adapters.wiring import Parts, assemble
from agent_service.config import AgentSettings
from shared.security import ServiceName, service_signer
from shared.settings import DEVELOPMENT_SERVICE_KEY, Environment
from tests.factories.openai_clients import impatient
from tests.factories.served import served
from tests.fakes.embedder import QuickEmbedder
from tests.fakes.scripted_model import ScriptedModelServer

MODEL = "openai:scripted"
PIXEL = "data:image/png;base64,iVBORw0KGgo="
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
OSLO = """call=weather args='{"city": "Oslo"}'"""


def parts(settings: AgentSettings) -> Parts:
    return assemble(settings, QuickEmbedder())


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedModelServer]:
    with ScriptedModelServer() as server:
        yield server


@pytest.fixture
def model(scripted: ScriptedModelServer) -> ScriptedModelServer:
    scripted.forget()
    return scripted


OpenAgent = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def open_agent(scripted: ScriptedModelServer, tmp_path_factory: pytest.TempPathFactory) -> OpenAgent:
    @contextmanager
    def open_(**settings: Any) -> Iterator[str]:
        folder: Path = tmp_path_factory.mktemp("agent")
        loaded = AgentSettings(
            _env_file=None,
            environment=Environment.TEST,
            data_dir=folder,
            local_model_path=folder / "none.gguf",
            openai_api_key="a key",
            openai_base_url=scripted.openai_url,
            google_api_key="a key",
            google_gemini_base_url=scripted.gemini_url,
            model_retry_base_seconds=0.01,
            **settings,
        )
        with served(agent_service.main.create_app(loaded, parts)) as address:
            yield address

    return open_


@pytest.fixture(scope="module")
def agent(open_agent: OpenAgent) -> Iterator[str]:
    # One call to the model per turn, so that a second one is the client's doing.
    with open_agent(model_attempts=1) as address:
        # What a provider needs is loaded with its first turn, which takes seconds: no test may measure that.
        importlib.import_module("langchain_google_genai")
        with openai.OpenAI(base_url=f"{address}/v1", api_key=token(), timeout=120) as client:
            client.chat.completions.create(model=MODEL, messages=asked("Are you there?"))
        yield address


def token() -> str:
    signer = service_signer(DEVELOPMENT_SERVICE_KEY, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    return signer.mint(ServiceName.CHAT_API.value)


@pytest.fixture
def client(agent: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{agent}/v1", api_key=token()) as client:
        yield client


@pytest.fixture
async def async_client(agent: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{agent}/v1", api_key=token()) as client:
        yield client


def asked(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


def turns(model: ScriptedModelServer) -> list[dict[str, Any]]:
    """Requests that reached the model."""
    return [request for request in model.stats()["requests"] if request["protocol"] in ("openai", "gemini")]


def told(model: ScriptedModelServer) -> dict[str, Any]:
    """The body of the last of them."""
    body: dict[str, Any] = turns(model)[-1]["body"]
    return body


def until_closed(model: ScriptedModelServer) -> None:
    """Wait until nobody listens to the model any more, for half a minute at most."""
    deadline = time.monotonic() + 30
    while model.stats()["open"] and time.monotonic() < deadline:
        time.sleep(0.02)


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_chat(client: openai.OpenAI, model: ScriptedModelServer) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hello."},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "How are you?"}], "name": "ann"},
        ],
        temperature=0.5,
        max_completion_tokens=50,
        top_p=0.9,
        seed=7,
        user="somebody",
        presence_penalty=0.1,
        extra_body={"a_field_of_next_year": True},
    )

    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "You said: ann: How are you?")
    assert choice.finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert abs(answer.created - time.time()) < 60
    assert answer.model == MODEL
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert told(model)["temperature"] == 0.5
    told_messages = [(message["role"], message["content"]) for message in told(model)["messages"]]
    assert told_messages[0] == ("system", "Be brief.")
    assert told_messages[3] == ("system", "Be kind.")


async def test_a_chat_that_is_awaited(async_client: openai.AsyncOpenAI) -> None:
    answer = await async_client.chat.completions.create(model=MODEL, messages=asked("Hello"))

    assert answer.choices[0].message.content == "You said: Hello"


def test_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=asked("Hello [[script tokens=20 delay_ms=5]]"), stream=True
    )
    chunks = list(stream)

    assert text_of(chunks) == "".join(f"word{number} " for number in range(20))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_that_is_awaited_ends_with_its_usage(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=asked("Hello"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert text_of(chunks) == "You said: Hello"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_clients_own_accumulator_reads_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=asked(f"Hello [[script {OSLO} fragment=3]]"), tools=[WEATHER]
    ) as stream:
        final = stream.get_final_completion()

    [call] = final.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == {"city": "Oslo"}
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_picture(client: openai.OpenAI, model: ScriptedModelServer) -> None:
    parts_ = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = client.chat.completions.create(model=MODEL, messages=asked(parts_))

    assert answer.choices[0].message.content == "You said: What is it?"
    assert PIXEL in json.dumps(told(model))


def test_a_limit_and_a_stop_sequence(client: openai.OpenAI) -> None:
    cut = client.chat.completions.create(model=MODEL, messages=asked("Hello [[script finish=length]]"), max_tokens=5)
    stopped = client.chat.completions.create(model=MODEL, messages=asked("one STOP two"), stop=["STOP"])

    assert cut.choices[0].finish_reason == "length"
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("You said: one ", "stop")


@pytest.mark.parametrize("provider", [MODEL, "google_genai:gemini-2.0-flash"])
def test_tools_from_the_call_to_the_answer(client: openai.OpenAI, model: ScriptedModelServer, provider: str) -> None:
    signed = "signed=1" if provider != MODEL else ""
    messages = asked(f"Weather? [[script {OSLO} call=clock {signed}]]")
    first = client.chat.completions.create(model=provider, messages=messages, tools=[WEATHER, CLOCK])

    [choice] = first.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    calls = choice.message.tool_calls or []
    assert [(call.type, getattr(call, "function").name) for call in calls] == [  # noqa: B009 - of one of two types
        ("function", "weather"),
        ("function", "clock"),
    ]
    assert json.loads(getattr(calls[0], "function").arguments) == {"city": "Oslo"}  # noqa: B009
    assert len({call.id for call in calls}) == 2

    messages += [
        choice.message,
        {"role": "tool", "tool_call_id": calls[0].id, "content": "Rain."},
        {"role": "tool", "tool_call_id": calls[1].id, "content": [{"type": "text", "text": "Noon."}]},
    ]
    second = client.chat.completions.create(model=provider, messages=messages, tools=[WEATHER, CLOCK])

    assert second.choices[0].finish_reason == "stop"
    content = second.choices[0].message.content or ""
    assert "Rain." in content
    assert "Noon." in content
    assert len(turns(model)) == 2


def test_streamed_calls_are_numbered_in_every_chunk(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=asked(f"Weather? [[script say=Well. {OSLO} call=clock]]"),
        tools=[WEATHER, CLOCK],
        stream=True,
    )
    chunks = list(stream)

    assert text_of(chunks) == "Well."
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    assert [piece.index for piece in pieces] == [0, 0, 1, 1]
    named = [piece for piece in pieces if piece.id is not None]
    assert [piece.function.name for piece in named if piece.function] == ["weather", "clock"]
    assert [piece.index for piece in named] == [0, 1]
    assert pieces[0] is named[0]
    arguments = "".join(piece.function.arguments or "" for piece in pieces if piece.index == 0 and piece.function)
    assert json.loads(arguments) == {"city": "Oslo"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("choice", "offered", "mode"),
    [
        ("auto", ["weather", "clock"], (None, "auto")),
        ("required", ["weather", "clock"], ("required",)),
        ({"type": "function", "function": {"name": "clock"}}, ["clock"], ("required",)),
    ],
)
def test_a_choice_of_tools_reaches_the_model(
    client: openai.OpenAI, model: ScriptedModelServer, choice: Any, offered: list[str], mode: tuple[str | None, ...]
) -> None:
    client.chat.completions.create(model=MODEL, messages=asked("Hello"), tools=[WEATHER, CLOCK], tool_choice=choice)

    body = told(model)
    assert [tool["function"]["name"] for tool in body["tools"]] == offered
    assert body.get("tool_choice") in mode


def test_no_tool_is_called_where_none_may_be(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=asked(f"Weather? [[script {OSLO}]]"), tools=[WEATHER], tool_choice="none"
    )

    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None


def test_one_call_at_a_time(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=asked(f"Weather? [[script {OSLO} call=clock]]"),
        tools=[WEATHER, CLOCK],
        parallel_tool_calls=False,
    )

    assert len(answer.choices[0].message.tool_calls or []) == 1


def test_embeddings_in_both_encodings(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model="local", input=["a", "b"], encoding_format="float", user="somebody")
    packed = client.embeddings.create(model="local", input=["a", "b"])  # the client asks for base64

    assert [item.index for item in packed.data] == [0, 1]
    for one, other in zip(floats.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_models(client: openai.OpenAI) -> None:
    listed = [model.id for model in client.models.list()]

    assert "openai:gpt-4o-mini" in listed
    assert client.models.retrieve(listed[0]).id == listed[0]
    assert client.models.retrieve("openai").owned_by == "openai"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("openai:org/none")
    assert missing.value.code == "model-not-found"


def test_a_stranger_is_not_let_in(agent: str) -> None:
    with (
        openai.OpenAI(base_url=f"{agent}/v1", api_key="sk-none") as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.chat.completions.create(model=MODEL, messages=asked("Hello"))

    assert (refused.value.type, refused.value.code) == ("authentication_error", "not-authenticated")


@pytest.mark.parametrize("name", ["nobody:gpt-4o", "local", "openai:", "local:any"])
def test_models_that_are_not_there(client: openai.OpenAI, model: ScriptedModelServer, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model=name, messages=asked("Hello"), stream=True)

    assert (missing.value.code, missing.value.param) == ("model-not-found", "model")
    assert not turns(model)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "nobody", "content": "Hello"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages"),
        ({"messages": asked([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_is_wrong_is_named(
    client: openai.OpenAI, model: ScriptedModelServer, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": MODEL, "messages": asked("Hello"), **fields})

    assert (refused.value.type, refused.value.param) == ("invalid_request_error", param)
    assert refused.value.code == "invalid-parameter"
    assert not turns(model)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "expected", "status"),
    [
        ("status=500", openai.InternalServerError, 503),
        ("status=503 retry_after=1", openai.InternalServerError, 503),
        ("status=429", openai.RateLimitError, 429),
        ("status=429 retry_after=1", openai.RateLimitError, 429),
        ("status=401", openai.InternalServerError, 502),
        ("status=404", openai.NotFoundError, 404),
        ("status=400 code=context_length_exceeded", openai.BadRequestError, 400),
        ("drop_after=0", openai.InternalServerError, 503),
    ],
)
def test_a_turn_that_failed_is_run_once(
    client: openai.OpenAI,
    model: ScriptedModelServer,
    script: str,
    expected: type[openai.APIStatusError],
    status: int,
    stream: bool,
) -> None:
    assert client.max_retries == 2
    with pytest.raises(expected) as failed:
        client.chat.completions.create(
            model=MODEL, messages=asked(f"Hello, {stream} [[script {script}]]"), stream=stream
        )

    assert failed.value.status_code == status
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(turns(model)) == 1


@pytest.mark.parametrize("script", ["drop_after=2", "fail_after=2", "end_after=2"])
def test_a_turn_that_fails_in_the_middle_is_run_once(
    client: openai.OpenAI, model: ScriptedModelServer, script: str
) -> None:
    directive = f"Hello [[script tokens=4 delay_ms=30 {script}]]"
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=MODEL, messages=asked(directive))
    stream = client.chat.completions.create(model=MODEL, messages=asked(f"Streamed: {directive}"), stream=True)
    heard: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as failed:
        heard.extend(stream)

    assert text_of(heard).startswith("word0 ")
    assert failed.value.code == "model-unavailable"
    assert len(turns(model)) == 2


@pytest.mark.parametrize("script", ["silent=1", "hang_after=0"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_loses_patience_runs_a_turn_once(
    client: openai.OpenAI, model: ScriptedModelServer, script: str, stream: bool
) -> None:
    """It tries again by itself after a time-out, and no answer of ours could have told it not to."""
    with impatient(client) as hasty, pytest.raises(openai.ConflictError) as refused:
        hasty.chat.completions.create(
            model=MODEL, messages=asked(f"Patience, {stream} [[script {script}]]"), stream=stream
        )

    assert refused.value.code == "turn-already-begun"
    assert len(turns(model)) == 1
    # What it asked for was cancelled the moment it went.
    until_closed(model)
    assert turns(model)[0]["state"] == "closed_by_client"


def test_the_same_question_may_be_asked_again(client: openai.OpenAI, model: ScriptedModelServer) -> None:
    for _ in range(2):
        client.chat.completions.create(model=MODEL, messages=asked("Again"))

    assert len(turns(model)) == 2


def test_a_stream_that_is_left_stops_the_model(client: openai.OpenAI, model: ScriptedModelServer) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=asked("Hello [[script tokens=3000 delay_ms=20]]"), stream=True
    ) as stream:
        next(iter(stream))
    left = time.time()

    until_closed(model)
    [turn] = turns(model)
    assert turn["state"] == "closed_by_client"
    assert turn["ended_at"] - left < 10, "of the minute that the reply takes"


def test_a_silent_model_keeps_the_line_open(open_agent: OpenAgent, model: ScriptedModelServer) -> None:
    with (
        open_agent(model_attempts=1, stream_heartbeat_seconds=0.1) as address,
        # Less patience than the model takes, if nothing came at all.
        openai.OpenAI(base_url=f"{address}/v1", api_key=token(), timeout=2, max_retries=0) as client,
    ):
        stream = client.chat.completions.create(
            model=MODEL, messages=asked("Hello [[script first_delay_ms=3000]]"), stream=True
        )
        assert text_of(list(stream)) == "You said: Hello"
        failing = client.chat.completions.create(
            model=MODEL, messages=asked("Hello [[script first_delay_ms=500 drop_after=0]]"), stream=True
        )
        with pytest.raises(openai.APIError) as failed:
            list(failing)

    assert failed.value.code == "model-unavailable"
    assert len(turns(model)) == 2
