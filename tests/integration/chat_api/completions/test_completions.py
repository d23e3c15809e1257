"""`/v1` on the chat API: who may use which model, and what a bot's turn is made of."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from structlog.testing import capture_logs

from shared.contracts.chat import ChatRole, ModelChoice, Provider, ToolChoice
from shared.contracts.knowledge import CitationData, SearchMode
from shared.contracts.tools import ApprovalMode, ApprovalRequiredEvent, PausedEvent
from shared.problems import PROBLEM_JSON, ProblemDocument
from tests.factories.chat import API, ChatApi, Person, chat_api
from tests.fakes.agent import Gate, breaking_off, citing, failing, saying
from tests.stores import Database

URL = "/v1/chat/completions"
ASKED = [{"role": "user", "content": "When does it close?"}]


async def post(chat: ChatApi, person: Person, model: str = "local", **fields: Any) -> httpx.Response:
    headers = person.headers | fields.pop("headers", {})
    return await chat.client.post(URL, json={"model": model, "messages": ASKED, **fields}, headers=headers)


async def completed(chat: ChatApi, person: Person, model: str = "local", **fields: Any) -> dict[str, Any]:
    answer = await post(chat, person, model, **fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def bot_of(chat: ChatApi, person: Person, **fields: Any) -> tuple[dict[str, Any], str]:
    bot = await chat.bot(person, **fields)
    return bot, f"bot:{bot['id']}"


def error(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return answer.status_code, body["code"]


def cited(document_id: UUID) -> CitationData:
    return CitationData(
        index=1,
        document_id=document_id,
        document_name="harbour.md",
        chunk_id=document_id,
        page=2,
        score=0.9,
        snippet="It closes at ten.",
    )


async def test_a_plain_model_is_asked_in_our_words(chat: ChatApi, ann: Person) -> None:
    answer = await completed(chat, ann, "google_genai:gemini-x", temperature=0.3, max_tokens=9)

    assert answer["choices"][0]["message"]["content"] == "You said: When does it close?"
    assert answer["usage"]["total_tokens"] == 12
    [turn] = chat.agent.requests
    assert turn.model == ModelChoice(provider=Provider.GOOGLE_GENAI, name="gemini-x", temperature=0.3, max_tokens=9)
    assert (turn.system_prompt, turn.collections, turn.tools, turn.user) == (None, [], [], None)


async def test_a_bot_answers_from_its_documents(chat: ChatApi, ann: Person) -> None:
    bot, model = await bot_of(
        chat,
        ann,
        system_prompt="You answer visitors.",
        provider="openai",
        model="gpt-4o",
        configuration={
            "agent_type": "rag",
            "temperature": 0.2,
            "max_tokens": 77,
            "chat_history_length": 1,
            "retrieval": {"mode": "text", "top_k": 3, "min_score": 0.25},
        },
    )
    document = await chat.document_row(bot)
    deleted = await chat.document_row(bot, name="old.md", deleted=True)
    chat.agent.script = citing(cited(document), text="At ten [1].")

    messages = [{"role": "system", "content": "Be brief."}, *ASKED, {"role": "assistant", "content": "?"}, *ASKED]
    answer = await completed(chat, ann, model, messages=messages)

    [turn] = chat.agent.requests
    assert turn.model == ModelChoice(provider=Provider.OPENAI, name="gpt-4o", temperature=0.2, max_tokens=77)
    assert turn.system_prompt == "You answer visitors."
    assert (turn.messages[0].role, turn.messages[0].content) == (ChatRole.SYSTEM, "Be brief.")
    assert len(turn.messages) == 4
    assert turn.collections == [UUID(bot["id"])]
    assert (turn.retrieval.mode, turn.retrieval.top_k, turn.retrieval.min_score) == (SearchMode.TEXT, 3, 0.25)
    assert turn.retrieval.exclude_documents == [deleted]
    assert turn.ground
    assert turn.tools == []
    message = answer["choices"][0]["message"]
    [annotation] = message["annotations"]
    place = annotation["url_citation"]
    assert message["content"][place["start_index"] : place["end_index"]] == "[1]"
    assert (place["title"], place["url"]) == ("harbour.md", f"{API}/documents/{document}")
    assert annotation["file_citation"]["snippet"] == "It closes at ten."
    read = await chat.client.get(place["url"], headers=ann.headers)
    assert read.status_code == 200
    assert answer["model"] == model


async def test_annotations_of_a_stream_come_after_its_words(chat: ChatApi, ann: Person) -> None:
    bot, model = await bot_of(chat, ann)
    chat.agent.script = citing(cited(await chat.document_row(bot)), text="At ten [1].")

    answer = await post(chat, ann, model, stream=True)

    *chunks, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert done == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert [set(delta) for delta in deltas] == [{"role", "content"}, {"content"}, {"content", "annotations"}, set()]
    assert deltas[2]["annotations"][0]["url_citation"]["start_index"] == len("At ten ")


async def test_a_document_that_was_deleted_meanwhile_is_not_named(chat: ChatApi, ann: Person) -> None:
    bot, model = await bot_of(chat, ann)
    kept = await chat.document_row(bot)
    gone = await chat.document_row(bot, name="gone.md", deleted=True)
    chat.agent.script = citing(cited(gone), cited(kept))

    answer = await completed(chat, ann, model)

    found = answer["choices"][0]["message"]["annotations"]
    assert [each["file_citation"]["file_id"] for each in found] == [str(kept)]


async def test_the_caller_has_the_last_word_on_tuning(chat: ChatApi, ann: Person) -> None:
    _, model = await bot_of(chat, ann, configuration={"temperature": 0.2, "max_tokens": 77})

    await completed(chat, ann, model, temperature=1.5, max_completion_tokens=5)

    assert (chat.agent.requests[0].model.temperature, chat.agent.requests[0].model.max_tokens) == (1.5, 5)


@pytest.mark.parametrize(
    ("agent_type", "ground", "grounded", "tools"),
    [("chat", True, False, []), ("rag", True, True, []), ("react", False, True, ["search_knowledge"])],
)
async def test_a_bot_knows_things_in_its_own_way(
    chat: ChatApi, ann: Person, agent_type: str, ground: bool, grounded: bool, tools: list[str]
) -> None:
    bot, model = await bot_of(chat, ann, configuration={"agent_type": agent_type})
    await chat.document_row(bot)

    await completed(chat, ann, model)

    [turn] = chat.agent.requests
    assert (turn.ground, bool(turn.collections), turn.tools) == (ground, grounded, tools)


async def test_only_tools_that_need_nobody_are_offered(chat: ChatApi, ann: Person) -> None:
    _, model = await bot_of(chat, ann, configuration={"tools": ["calculator", "fetch_url", "mcp:files"]})

    await completed(chat, ann, model)

    [turn] = chat.agent.requests
    assert turn.tools == ["calculator"]
    assert turn.approval_mode is ApprovalMode.RISKY


async def test_a_tool_that_needs_somebody_after_all_ends_the_turn(chat: ChatApi, ann: Person) -> None:
    _, model = await bot_of(chat, ann, configuration={"tools": ["calculator"]})

    async def pausing(_: Any) -> Any:
        yield ApprovalRequiredEvent(call_id="call_1")
        yield PausedEvent(provider="local", model="x", latency_ms=1, time_to_first_token_ms=None)

    chat.agent.script = pausing
    answer = await post(chat, ann, model)

    assert error(answer) == (403, "tool-needs-approval")
    assert answer.headers["x-should-retry"] == "false"


async def test_functions_of_the_caller_are_passed_on(chat: ChatApi, ann: Person) -> None:
    _, model = await bot_of(chat, ann)
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}

    await completed(chat, ann, model, tools=[tool], tool_choice="required")

    [turn] = chat.agent.requests
    assert [function.name for function in turn.functions] == ["weather"]
    assert turn.tool_choice is ToolChoice.REQUIRED


async def test_a_bot_is_there_for_whom_it_is_shared_with(chat: ChatApi, ann: Person, bob: Person) -> None:
    private, private_model = await bot_of(chat, ann, name="private")
    shared, shared_model = await bot_of(chat, ann, name="shared", visibility="shared")
    _, public_model = await bot_of(chat, ann, name="public", visibility="public")
    missing = f"bot:{UUID(int=0)}"

    for model in (private_model, shared_model, missing, "bot:x", "bot:"):
        answer = await post(chat, bob, model)
        assert error(answer) == (404, "model-not-found"), model
        assert error(await chat.client.get(f"/v1/models/{model}", headers=bob.headers)) == (404, "model-not-found")
    await chat.share(ann, shared, bob)

    for model in (shared_model, public_model):
        await completed(chat, bob, model)
    listed = (await chat.client.get("/v1/models", headers=bob.headers)).json()["data"]
    assert {each["id"]: each.get("name") for each in listed if each["owned_by"] == "colloquy"} == {
        shared_model: "shared",
        public_model: "public",
    }
    assert [each["id"] for each in listed][:2] == ["local:scripted", "openai:gpt-4o-mini"]
    deleted = await chat.client.delete(f"{API}/bots/{private['id']}", headers=ann.headers)
    assert deleted.status_code == 204
    assert error(await post(chat, ann, private_model)) == (404, "model-not-found")


async def key_of(chat: ChatApi, person: Person, *scopes: str) -> Person:
    made = await chat.client.post(f"{API}/api-keys", json={"name": "k", "scopes": scopes}, headers=person.headers)
    return Person(person.id, person.username, {"Authorization": f"Bearer {made.json()['key']}"})


async def test_a_key_needs_the_scope_and_reads_no_messages_without_the_other(chat: ChatApi, ann: Person) -> None:
    _, model = await bot_of(chat, ann, configuration={"tools": ["calculator"]})

    refused = await post(chat, await key_of(chat, ann, "chat:read", "chat:write"), model)
    await completed(chat, await key_of(chat, ann, "agent:invoke"), model)
    await completed(chat, await key_of(chat, ann, "agent:invoke", "chat:read"), model)

    assert error(refused) == (403, "insufficient-scope")
    # Tools of the bot search the messages of whom the turn is for.
    assert [None if turn.user is None else turn.user.id for turn in chat.agent.requests] == [None, ann.id]


@pytest.mark.parametrize("body", [b"{}", b"no JSON", b"[" * 1_500_000])
async def test_without_a_credential_nothing_is_read(chat: ChatApi, body: bytes) -> None:
    answer = await chat.client.post(URL, content=body, headers={"Content-Type": "application/json"})

    assert error(answer) == (401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_agents_problems_keep_their_status(chat: ChatApi, ann: Person, stream: bool) -> None:
    limited = ProblemDocument(title="x", status=429, detail="Slower.", code="model-rate-limited")
    chat.agent.script = failing(limited)
    answer = await post(chat, ann, stream=stream)
    assert error(answer) == (429, "model-rate-limited")
    assert answer.headers["x-should-retry"] == "false"

    chat.agent.script = failing(limited.model_copy(update={"status": 422, "code": "model-not-configured"}))
    assert error(await post(chat, ann, stream=stream)) == (404, "model-not-configured")

    chat.agent.script = breaking_off()
    answer = await post(chat, ann, stream=stream)
    assert error(answer) == (502, "agent-broke-off")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("refusal", "expected", "may_retry"),
    [
        (httpx.ConnectError("refused"), (503, "agent-unavailable"), True),
        (httpx.ReadError("gone"), (503, "agent-unavailable"), False),
        (httpx.Response(502, content=b"<html>"), (503, "agent-unavailable"), False),
        (httpx.Response(401, content=b""), (502, "agent-broke-off"), False),
    ],
)
async def test_only_what_never_reached_the_agent_may_be_tried_again(
    chat: ChatApi, ann: Person, refusal: Any, expected: tuple[int, str], may_retry: bool
) -> None:
    chat.agent.refusals.append(refusal)

    answer = await post(chat, ann)

    assert error(answer) == expected
    assert ("x-should-retry" not in answer.headers) is may_retry
    again = await post(chat, ann, headers={"x-stainless-retry-count": "1"})
    assert again.status_code == (200 if may_retry else 409), again.text


async def test_the_agents_doubts_about_us_are_not_the_callers(chat: ChatApi, ann: Person) -> None:
    refused = ProblemDocument(title="x", status=401, detail="Who?", code="not-authenticated").model_dump_json()
    chat.agent.refusals.append(httpx.Response(401, headers={"Content-Type": PROBLEM_JSON}, content=refused))

    assert error(await post(chat, ann)) == (502, "agent-broke-off")


async def test_a_client_that_leaves_ends_the_turn(chat: ChatApi, ann: Person) -> None:
    gate = Gate()
    chat.agent.script = gate

    asking = asyncio.ensure_future(_left(chat, ann, gate))
    await asking

    async with asyncio.timeout(30):
        while not chat.agent.abandoned:
            await asyncio.sleep(0.01)
    # Its place is free again.
    chat.agent.script = saying("Yes.")
    await completed(chat, ann, messages=[{"role": "user", "content": "Another"}])


async def _left(chat: ChatApi, person: Person, gate: Gate) -> None:
    """A request whose client hangs up once the turn speaks."""
    body = json.dumps({"model": "local", "messages": ASKED, "stream": True}).encode()
    headers = [(name.lower().encode(), value.encode()) for name, value in person.headers.items()]
    scope = {
        "type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b"", "root_path": "",
        "headers": [*headers, (b"content-type", b"application/json")], "scheme": "http", "http_version": "1.1",
        "server": ("colloquy.test", 80), "client": ("127.0.0.1", 1), "app": chat.app,
    }  # fmt: skip
    sent = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        message = next(sent, None)
        if message is None:
            await gate.arrival()
            return {"type": "http.disconnect"}
        return message

    async def send(_: Any) -> None:
        return None

    await chat.app(scope, receive, send)


async def test_a_process_takes_only_so_many(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, max_concurrent_runs=1) as chat:
        ann = await chat.person("ann")
        gate = Gate()
        chat.agent.script = gate
        first = asyncio.ensure_future(completed(chat, ann))
        await gate.arrival()

        full = await post(chat, ann, messages=[{"role": "user", "content": "Another"}])
        gate.opened.set()
        await first

        assert error(full) == (503, "too-many-completions")
        assert full.headers["retry-after"] == "2"
        assert "x-should-retry" not in full.headers
        retried = {"x-stainless-retry-count": "1"}
        await completed(chat, ann, messages=[{"role": "user", "content": "Another"}], headers=retried)


async def test_one_person_is_slowed_down(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url, user_sends_per_second=0.1, user_sends_burst=2) as chat:
        ann = await chat.person("ann")
        await completed(chat, ann)
        await completed(chat, ann)

        answer = await post(chat, ann)
        assert error(answer) == (429, "too-many-messages")
        assert "retry-after" in answer.headers
        assert len(chat.agent.requests) == 2


async def test_what_was_refused_before_it_was_begun_may_be_tried_again(chat: ChatApi, ann: Person) -> None:
    """Also where an earlier request with the same bytes was begun: that one is not what is tried again."""
    retry = {"x-stainless-retry-count": "1"}
    _, model = await bot_of(chat, ann, configuration={"tools": ["calculator"]})
    await completed(chat, ann, model)

    chat.agent.tools_answer = httpx.Response(503)
    assert error(await post(chat, ann, model)) == (503, "agent-unavailable")
    assert error(await post(chat, ann, model, headers=retry)) == (503, "agent-unavailable")
    chat.agent.tools_answer = None

    await completed(chat, ann, model, headers=retry)
    assert error(await post(chat, ann, model, headers=retry)) == (409, "turn-already-begun")
    assert len(chat.agent.requests) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        pytest.param("GET", "/v1/nothing", b"", 404, "not-found", id="no route"),
        pytest.param("POST", "/v1/chat/completions/", b"{}", 404, "not-found", id="a slash more"),
        pytest.param("GET", URL, b"", 405, "method-not-allowed", id="no method"),
        pytest.param("POST", URL, b'{"model": "\xff"}', 400, "malformed-request", id="no UTF-8"),
        pytest.param("POST", URL, b" " * 17_000_000, 413, "payload-too-large", id="too large"),
        pytest.param("GET", "/v1/models/%00", b"", 400, "malformed-request", id="NUL"),
    ],
)
async def test_what_no_route_answers_has_the_shape_too(
    chat: ChatApi, ann: Person, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    headers = ann.headers | {"content-type": "application/json"}
    answer = await chat.client.request(method, path, content=body, headers=headers)
    assert error(answer) == (status, code)
    assert answer.headers["x-request-id"]
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)
    elsewhere = await chat.client.get(f"{API}/nothing", headers=ann.headers)
    assert elsewhere.headers["content-type"] == PROBLEM_JSON


async def test_embeddings_are_passed_on(chat: ChatApi, ann: Person) -> None:
    body = {"model": "local", "input": ["a", "b"], "encoding_format": "base64", "dimensions": None}
    answer = await chat.client.post("/v1/embeddings", json=body, headers=ann.headers)

    assert answer.status_code == 200, answer.text
    assert [item["embedding"] for item in answer.json()["data"]] == ["AACAPwAAAD8="] * 2
    refusal = {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "model-not-found"}
    }
    chat.agent.embeddings_answer = httpx.Response(404, json=refusal)
    answer = await chat.client.post("/v1/embeddings", json=body, headers=ann.headers)
    assert error(answer) == (404, "model-not-found")
    assert answer.json()["error"]["param"] == "model"


async def test_pictures_have_room(chat: ChatApi, ann: Person) -> None:
    """More than JSON may be elsewhere."""
    url = "data:image/png;base64," + "A" * 4_000_000
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]

    await completed(chat, ann, messages=[{"role": "user", "content": content}])

    [image] = chat.agent.requests[0].messages[0].images or []
    assert len(image.data) == 4_000_000


async def test_logs_hold_nothing_of_what_was_said(chat: ChatApi, ann: Person) -> None:
    _, model = await bot_of(chat, ann, system_prompt="the-prompt")
    with capture_logs() as logs:
        await completed(chat, ann, model, messages=[{"role": "user", "content": "the-question"}])
        chat.agent.script = breaking_off("the-answer")
        await post(chat, ann, model, stream=True)
        await post(chat, ann, model, messages=[{"role": "tool", "content": "the-result", "tool_call_id": "x"}])

    assert logs
    assert "the-" not in json.dumps(logs, default=str)


async def test_a_retry_that_another_process_gets_is_known_there_too(
    chat: ChatApi, ann: Person, bob: Person, clean_database: Database, redis_url: str
) -> None:
    retry = {"x-stainless-retry-count": "1"}
    await completed(chat, ann)

    async with chat_api(clean_database.api_url, redis_url) as other:
        answer = await post(other, ann, headers=retry)
        assert error(answer) == (409, "turn-already-begun")
        assert answer.headers["x-should-retry"] == "false"
        assert not other.agent.requests
        # The same words are another request, from somebody else or when they are not a retry.
        await completed(other, bob, headers=retry)
        await completed(other, ann)
        await chat.rows("UPDATE chat.idempotency_keys SET created_at = now() - interval '31 minutes'")
        await completed(other, ann, headers=retry)
