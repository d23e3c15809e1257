"""The one middleware, around a small application: request ids, bodies too large, hostile addresses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Request
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry

from shared.logging import request_id_var
from shared.problems import PROBLEM_JSON, Problem
from shared.telemetry import HttpMetrics
from shared.web.middleware import LargeBody, RequestMiddleware
from shared.web.responses import install_problem_handlers

LIMIT = 100
LARGE_LIMIT = 1_000
LARGE = (LargeBody("POST", re.compile(r"/files/[^/]+"), LARGE_LIMIT),)


class OutOfTea(Problem):
    status = 503
    code = "out-of-tea"
    title = "No tea"
    detail = "Come back."
    retry_after = 7


def make_app() -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/id")
    async def read_id() -> dict[str, str | None]:
        return {"id": request_id_var.get()}

    @app.post("/json")
    async def read_json(body: Annotated[dict[str, Any], Body()]) -> int:
        return len(body)

    @app.post("/raw")
    async def read_raw(request: Request) -> int:
        return len(await request.body())

    @app.post("/files/{name}")
    @app.put("/files/{name}")
    @app.post("/files/{name}/more")
    async def read_file(request: Request) -> int:
        return len(await request.body())

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        return StreamingResponse(pieces())

    @app.get("/tea")
    async def tea() -> None:
        raise OutOfTea

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("SECRET")

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = make_app()
    app.add_middleware(
        RequestMiddleware, max_body_bytes=LIMIT, metrics=HttpMetrics(CollectorRegistry()), large_bodies=LARGE
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def chunks(size: int) -> AsyncIterator[bytes]:
    """A body whose length nobody says: httpx sends it chunked."""
    for _ in range(size // 10):
        yield b"1234567890"


async def test_a_request_id_is_made(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/id") for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{32}", identifier) for identifier in ids)
    assert ids[0] != ids[1]
    assert [answer.json()["id"] for answer in answers] == ids


@pytest.mark.parametrize("taken", ["a", "trace-1", "A.b_c-9", "x" * 128])
async def test_a_request_id_is_taken(client: httpx.AsyncClient, taken: str) -> None:
    answer = await client.get("/id", headers={"X-Request-ID": taken})
    assert answer.headers.get_list("x-request-id") == [taken]
    assert answer.json() == {"id": taken}


@pytest.mark.parametrize("malformed", ["", "x" * 129, "two words", 'quote"', "semi;colon", "line\\n", "{}", "ü"])
async def test_a_malformed_request_id_is_replaced(client: httpx.AsyncClient, malformed: str) -> None:
    answer = await client.get("/id", headers=[(b"X-Request-ID", malformed.encode())])
    assert answer.status_code == 200
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_problems_carry_the_request_id(client: httpx.AsyncClient) -> None:
    answer = await client.get("/tea", headers={"X-Request-ID": "trace-1"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == PROBLEM_JSON
    assert (answer.headers["retry-after"], answer.headers["x-request-id"]) == ("7", "trace-1")
    assert answer.json() == {
        "type": "about:blank",
        "title": "No tea",
        "status": 503,
        "detail": "Come back.",
        "code": "out-of-tea",
        "request_id": "trace-1",
    }


async def test_what_the_framework_refuses_is_a_problem_too(client: httpx.AsyncClient) -> None:
    answers = [
        await client.get("/nowhere"),
        await client.post("/id"),
        await client.post("/json", content=b"{", headers={"Content-Type": "application/json"}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (404, "not-found"),
        (405, "method-not-allowed"),
        (400, "malformed-request"),
    ]
    assert {answer.headers["content-type"] for answer in answers} == {PROBLEM_JSON}
    assert answers[1].headers["allow"] == "GET"
    assert all(answer.json()["request_id"] == answer.headers["x-request-id"] for answer in answers)


async def test_a_bug_shows_nothing_of_itself(client: httpx.AsyncClient) -> None:
    answer = await client.get("/bug", headers={"X-Request-ID": "trace-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM_JSON)
    assert (answer.json()["code"], answer.json()["request_id"]) == ("internal-error", "trace-1")
    assert answer.headers["x-request-id"] == "trace-1"
    assert "SECRET" not in answer.text


@pytest.mark.parametrize("path", ["/raw", "/json"])
async def test_a_body_too_large_is_refused_by_its_declared_length(client: httpx.AsyncClient, path: str) -> None:
    body = b'{"a": "' + b"x" * 200 + b'"}'
    answer = await client.post(path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload-too-large")
    assert "100 bytes" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/raw", "/json"])
async def test_a_body_too_large_is_refused_without_a_length(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=chunks(200), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload-too-large")


async def test_a_body_at_the_limit_passes(client: httpx.AsyncClient) -> None:
    assert (await client.post("/raw", content=b"x" * LIMIT)).json() == LIMIT
    assert (await client.post("/raw", content=chunks(LIMIT))).json() == LIMIT
    refused = await client.post("/raw", content=b"x" * (LIMIT + 1))
    assert refused.status_code == 413


async def test_a_route_for_large_bodies_has_a_limit_of_its_own(client: httpx.AsyncClient) -> None:
    assert (await client.post("/files/a", content=b"x" * LARGE_LIMIT)).json() == LARGE_LIMIT
    assert (await client.post("/files/a", content=chunks(LARGE_LIMIT))).json() == LARGE_LIMIT
    for body in (b"x" * (LARGE_LIMIT + 1), chunks(LARGE_LIMIT + 10)):
        refused = await client.post("/files/a", content=body)
        assert (refused.status_code, refused.json()["code"]) == (413, "payload-too-large")
        assert "1000 bytes" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/files/a"), ("POST", "/files/a/more"), ("POST", "/files/"), ("POST", "/x/files/a")]
)
async def test_the_larger_limit_is_for_that_route_alone(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, path, content=b"x" * (LIMIT + 1))).status_code == 413
    assert (await client.request(method, path, content=chunks(LIMIT + 10))).status_code in (404, 413)


async def test_a_length_that_lies_does_not_help(client: httpx.AsyncClient) -> None:
    answer = await client.post("/raw", content=chunks(200), headers={"Content-Length": "5"})
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/id?q=%00", "/id?%00=1", "/%00", "/id?q=a%00b"])
async def test_a_nul_in_the_address_is_refused(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-request")


async def test_a_percent_sign_before_two_noughts_is_no_nul(client: httpx.AsyncClient) -> None:
    assert (await client.get("/id?q=100%2500")).status_code == 200


async def test_streams_pass(client: httpx.AsyncClient) -> None:
    answer = await client.get("/stream")
    assert (answer.text, "x-request-id" in answer.headers) == ("one two", True)


async def test_other_protocols_pass_untouched() -> None:
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    wrapped = RequestMiddleware(inner, max_body_bytes=LIMIT, metrics=HttpMetrics(CollectorRegistry()))
    for kind in ("websocket", "lifespan"):
        await wrapped({"type": kind}, nothing, nothing)
    assert seen == ["websocket", "lifespan"]
