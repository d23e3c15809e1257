"""Completions on their way out: what is sent when, and what a client's own retry meets."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.types import Message

from shared.contracts.chat import ChatEvent, DeltaEvent, DoneEvent, ErrorEvent, FinishReason, Provider
from shared.openai.completion import Completion
from shared.openai.errors import TurnAlreadyBegun
from shared.openai.requests import CompletionRequest
from shared.openai.response import REMEMBERED_SECONDS, BegunTurns, CompletionResponse
from shared.problems import Problem, ServiceUnavailable

FIRST: dict[str, str] = {}
RETRY = {"x-stainless-retry-count": "1"}
WANTED = CompletionRequest.model_validate({"model": "local", "messages": [{"role": "user", "content": "Hello"}]})
DONE = DoneEvent(
    finish_reason=FinishReason.STOP, provider=Provider.LOCAL, model="x", latency_ms=1, time_to_first_token_ms=1
)


class Turn:
    """Events, pauses (in seconds) and errors, in their order."""

    def __init__(self, *steps: ChatEvent | float | Exception) -> None:
        self._steps = steps
        self.closed = False
        self.ended_itself = False

    async def run(self) -> AsyncGenerator[ChatEvent]:
        try:
            for step in self._steps:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
            self.ended_itself = True
        finally:
            self.closed = True


class Client:
    """What was sent to it. It goes away after `patience` seconds, and is `busy` with another answer for some."""

    def __init__(self, patience: float = 10.0, busy: float = 0.0) -> None:
        self._patience = patience
        self._busy = busy
        self.messages: list[Message] = []

    async def receive(self) -> Message:
        await asyncio.sleep(self._patience)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self.messages:
            await asyncio.sleep(self._busy)
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.messages[1:]).decode()

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body.rpartition("data: ")[2])["error"]
        return found


async def answered(turn: Turn, *, stream: bool = True, client: Client | None = None, **options: Any) -> Client:
    client = client or Client()
    completion = Completion(WANTED, run_id=uuid.uuid4(), created=1)
    response = CompletionResponse(
        turn.run(), completion, stream=stream, heartbeat_seconds=options.pop("heartbeat", 5.0), **options
    )
    await response({"type": "http"}, client.receive, client.send)
    assert turn.closed
    return client


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failing", [ErrorEvent(problem=ServiceUnavailable().document()), ServiceUnavailable()])
async def test_what_fails_before_the_first_word_has_a_status(stream: bool, failing: Any) -> None:
    client = await answered(Turn(failing), stream=stream)

    assert client.status == 503
    assert client.headers["x-should-retry"] == "false"
    assert client.error["code"] == "service-unavailable"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_fault_of_ours_is_not_tried_again_either(stream: bool) -> None:
    client = await answered(Turn(RuntimeError("a secret")), stream=stream)

    assert (client.status, client.headers["x-should-retry"]) == (500, "false")
    assert "secret" not in client.body


async def test_a_turn_without_an_end_is_a_fault() -> None:
    client = await answered(Turn(DeltaEvent(text="So")), stream=False)

    assert (client.status, client.headers["x-should-retry"]) == (500, "false")


async def test_what_was_never_begun_may_be_tried_again() -> None:
    async def try_again(problem: Problem) -> bool:
        return isinstance(problem, ServiceUnavailable)

    client = await answered(Turn(ServiceUnavailable()), try_again=try_again)

    assert client.status == 503
    assert "x-should-retry" not in client.headers


async def test_what_fails_later_is_an_error_in_the_stream() -> None:
    client = await answered(Turn(DeltaEvent(text="So"), ErrorEvent(problem=ServiceUnavailable().document())))

    assert client.status == 200
    assert '"content":"So"' in client.body
    assert client.error["code"] == "service-unavailable"
    assert "[DONE]" not in client.body


async def test_a_stream_ends_with_its_mark() -> None:
    turn = Turn(DeltaEvent(text="So"), DONE)
    client = await answered(turn)

    assert turn.ended_itself
    assert client.headers["content-type"].startswith("text/event-stream")
    assert client.body.endswith("data: [DONE]\n\n")
    assert not client.messages[-1].get("more_body", False)


async def test_an_answer_begins_with_its_beginning_whoever_writes_first() -> None:
    client = await answered(Turn(0.05, DeltaEvent(text="So"), DONE), heartbeat=0.02, client=Client(busy=0.1))

    types = [message["type"] for message in client.messages]
    assert types == ["http.response.start", *["http.response.body"] * (len(types) - 1)]
    assert client.body.startswith(": ")


async def test_a_silent_model_has_comments_stand_in_for_it() -> None:
    client = await answered(Turn(0.3, ErrorEvent(problem=Problem().document())), heartbeat=0.1)

    assert client.status == 200
    assert client.body.startswith(": keep-alive\n\n: keep-alive\n\n")
    assert client.error["code"] == "internal-error"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_ends_the_turn(stream: bool) -> None:
    client = await answered(Turn(DeltaEvent(text="So"), 60.0, DONE), stream=stream, client=Client(patience=0.05))

    assert client.status == (200 if stream else 499)


def test_a_retry_of_what_was_begun_is_refused() -> None:
    begun = BegunTurns()
    begun.begin("ann", b"body", FIRST)

    with pytest.raises(TurnAlreadyBegun) as refused:
        begun.begin("ann", b"body", RETRY)
    assert refused.value.headers == {"x-should-retry": "false"}


def test_all_else_is_a_request_of_its_own() -> None:
    begun = BegunTurns()
    begun.begin("ann", b"body", FIRST)
    begun.begin("ann", b"body", FIRST)
    begun.begin("bob", b"body", RETRY)
    begun.begin("ann", b"another body", RETRY)


def test_it_remembers_neither_for_ever_nor_everything() -> None:
    now = 0.0
    begun = BegunTurns(most=2, now=lambda: now)
    begun.begin("ann", b"1", FIRST)
    begun.begin("ann", b"2", FIRST)
    begun.begin("ann", b"3", FIRST)
    begun.begin("ann", b"1", RETRY)
    now = REMEMBERED_SECONDS + 1
    begun.begin("ann", b"3", RETRY)
