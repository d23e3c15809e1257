"""The methods of the protocol, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import jsonschema
import pytest
from mcp import types
from mcp.shared.version import SUPPORTED_PROTOCOL_VERSIONS

from tests.factories.chat import ChatApi, Json, Person, problem

Say = Callable[..., Awaitable[httpx.Response]]

CLIENT = {"capabilities": {}, "clientInfo": {"name": "a client", "version": "1"}}


async def result(answer: httpx.Response) -> Json:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body: Json = answer.json()
    assert set(body) == {"jsonrpc", "id", "result"}, body
    found: Json = body["result"]
    return found


async def error(answer: httpx.Response) -> tuple[int, str]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"jsonrpc", "id", "error"}, body
    return body["error"]["code"], body["error"]["message"]


@pytest.mark.parametrize("version", SUPPORTED_PROTOCOL_VERSIONS)
async def test_it_agrees_to_a_version_that_it_speaks(ann: Person, say: Say, version: str) -> None:
    agreed = await result(await say(ann, "initialize", {"protocolVersion": version, **CLIENT}))

    assert agreed["protocolVersion"] == version
    assert agreed["serverInfo"]["name"] == "colloquy"
    assert agreed["capabilities"] == {"tools": {"listChanged": False}}
    listed = await result(await say(ann, "tools/list", MCP_Protocol_Version=version))
    assert len(listed["tools"]) == 3


async def test_it_offers_its_latest_version_for_one_it_does_not_speak(ann: Person, say: Say) -> None:
    agreed = await result(await say(ann, "initialize", {"protocolVersion": "2099-01-01", **CLIENT}))

    assert agreed["protocolVersion"] == types.LATEST_PROTOCOL_VERSION
    refused = await say(ann, "tools/list", MCP_Protocol_Version="2099-01-01")
    assert problem(refused) == (400, "protocol-version-unsupported")


async def test_its_tools_read_and_change_nothing(ann: Person, say: Say) -> None:
    listed = types.ListToolsResult.model_validate(await result(await say(ann, "tools/list")))

    assert [tool.name for tool in listed.tools] == ["search_knowledge", "search_messages", "list_bots"]
    for tool in listed.tools:
        assert tool.annotations is not None
        assert tool.annotations.readOnlyHint is True
        assert tool.annotations.destructiveHint is False
        assert tool.description
        assert tool.inputSchema["additionalProperties"] is False
        jsonschema.Draft202012Validator.check_schema(tool.inputSchema)
        assert tool.outputSchema is not None
        jsonschema.Draft202012Validator.check_schema(tool.outputSchema)


async def test_ids_come_back_as_they_were(ann: Person, say: Say) -> None:
    for message_id in (0, 7, -1, "a", "0", "é"):
        answer = await say(ann, "ping", message_id=message_id)
        assert answer.json() == {"jsonrpc": "2.0", "id": message_id, "result": {}}


async def test_a_notification_is_taken_and_not_answered(ann: Person, say: Say) -> None:
    for method in ("notifications/initialized", "notifications/cancelled", "tools/call", "nothing/known"):
        answer = await say(ann, method, message_id=None)
        assert (answer.status_code, answer.content) == (202, b"")


async def test_what_is_not_offered(ann: Person, say: Say) -> None:
    for method in ("prompts/list", "resources/list", "tools/delete", "logging/setLevel", "__init__", "x" * 200):
        assert (await error(await say(ann, method)))[0] == types.METHOD_NOT_FOUND
    assert await error(await say(ann, "tools/call", {"name": "rm"})) == (types.INVALID_PARAMS, "There is no such tool.")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("initialize", None),
        ("initialize", {"protocolVersion": 3}),
        ("tools/call", {}),
        ("tools/call", {"name": 1}),
        ("tools/call", {"name": "list_bots", "arguments": [1]}),
    ],
)
async def test_parameters_that_do_not_fit(ann: Person, say: Say, method: str, params: Any) -> None:
    code, message = await error(await say(ann, method, params))

    assert code == types.INVALID_PARAMS
    assert message == f"The parameters of {method} do not fit."


@pytest.mark.parametrize(
    "arguments",
    [
        None,
        {"query": ""},
        {"query": 5},
        {"query": "x" * 501},
        {"query": "x", "limit": 21},
        {"query": "x", "limit": "5"},
        {"query": "x", "user_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"},
    ],
)
async def test_arguments_that_do_not_fit_are_a_failure_of_the_tool(ann: Person, say: Say, arguments: Any) -> None:
    failed = await result(await say(ann, "tools/call", {"name": "search_messages", "arguments": arguments}))

    assert failed["isError"] is True
    [content] = failed["content"]
    assert content["text"].startswith("The arguments do not fit. ")
    assert "xxxx" not in content["text"]
    assert "structuredContent" not in failed


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"not json", "application/json", (400, "malformed-request")),
        (b"\xff\xfe", "application/json", (400, "malformed-request")),
        (b"", "application/json", (422, "validation-failed")),
        (b"[" * 100_000, "application/json", (400, "malformed-request")),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "application/json", (400, "malformed-request")),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', "application/json", (422, "validation-failed")),
        (b"null", "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":1,"method":"p\\u0000"}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', "application/json", (422, "validation-failed")),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', "text/plain", (422, "validation-failed")),
        (b"x" * 5_000_000, "application/json", (413, "payload-too-large")),
    ],
)
async def test_what_is_no_message_is_a_problem(
    chat: ChatApi, ann: Person, body: bytes, content_type: str, expected: tuple[int, str]
) -> None:
    answer = await chat.client.post("/mcp", content=body, headers=ann.headers | {"Content-Type": content_type})

    assert problem(answer) == expected
    assert "Traceback" not in answer.text


async def test_there_is_no_stream_and_no_session(chat: ChatApi, ann: Person) -> None:
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        answer = await chat.client.request(method, "/mcp", headers=ann.headers)
        assert problem(answer) == (405, "method-not-allowed")
        assert answer.headers["allow"] == "POST"


async def test_many_messages_at_once_leave_nothing_behind(ann: Person, say: Say) -> None:
    await say(ann, "ping")
    tasks = len(asyncio.all_tasks())

    answers = await asyncio.gather(*(say(ann, "tools/list", message_id=number) for number in range(200)))

    assert [answer.json()["id"] for answer in answers] == list(range(200))
    await asyncio.sleep(0)
    # Tasks of the application itself come and go.
    assert len(asyncio.all_tasks()) < tasks + 10


async def test_it_is_counted_like_every_route(chat: ChatApi, ann: Person, say: Say) -> None:
    await say(ann, "ping")

    metrics = (await chat.client.get("/metrics")).text
    assert 'route="/mcp"' in metrics
