"""Whatever is sent to any route of the agent, and by whomever: the answer is orderly."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

import agent_service.main
from agent_service.adapters.wiring import Parts, assemble
from agent_service.config import AgentSettings
from shared.security import ServiceName, TokenKind, TokenSigner, service_signer
from shared.settings import DEVELOPMENT_SECRET_KEY, DEVELOPMENT_SERVICE_KEY, Environment
from tests.factories.bad_input import (
    Attempt,
    bad_bodies,
    bad_fields,
    bad_headers,
    bad_parameters,
    check_answer,
    in_turn,
)
from tests.factories.operations import JSON_BODY, operations_of
from tests.fakes.embedder import QuickEmbedder
from tests.fakes.scripted_model import ScriptedModelServer
from tests.stores import Database

# A walk over all operations is one test: it takes seconds, and on a busy machine minutes.
pytestmark = pytest.mark.timeout(600)

IDS = {
    "collection_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
    "document_id": "0198f3a4-0b5e-7c1a-9d2f-3e4a5b6c7d8e",
    "model_id": "openai",
    "name": "calculator",
}


def parts(settings: AgentSettings) -> Parts:
    return assemble(settings, QuickEmbedder())


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModelServer]:
    with ScriptedModelServer() as server:
        yield server


@pytest.fixture
async def agent(
    model: ScriptedModelServer, clean_database: Database, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    loaded = AgentSettings(
        _env_file=None,
        environment=Environment.TEST,
        data_dir=tmp_path,
        agent_database_url=clean_database.agent_url,
        local_model_path=tmp_path / "none.gguf",
        default_provider="openai",
        openai_api_key="a key",
        openai_base_url=model.openai_url,
        model_retry_base_seconds=0.01,
    )
    app = agent_service.main.create_app(loaded, parts)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent.test", timeout=30) as client:
            yield client


def signer(*, now: float | None = None) -> TokenSigner:
    times = {} if now is None else {"now": lambda: now}
    return service_signer(
        DEVELOPMENT_SERVICE_KEY, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE, **times
    )


def good_credential() -> dict[str, str]:
    return {"Authorization": f"Bearer {signer().mint('chat_api')}"}


def wrong_credentials() -> dict[str, bytes]:
    def made(key: str, kind: TokenKind, issuer: str, audience: str) -> bytes:
        lifetime = timedelta(minutes=5)
        return TokenSigner(key, kind=kind, issuer=issuer, audience=audience, lifetime=lifetime).mint("x").encode()

    own, service, person = DEVELOPMENT_SERVICE_KEY, TokenKind.SERVICE, TokenKind.ACCESS
    tokens = {
        "a person's access token": made(DEVELOPMENT_SECRET_KEY, person, "colloquy", "colloquy"),
        "an access token signed for services": made(own, person, "chat_api", "agent_service"),
        "a service token signed for persons": made(DEVELOPMENT_SECRET_KEY, service, "chat_api", "agent_service"),
        "the agent's own": made(own, service, "agent_service", "chat_api"),
        "to another": made(own, service, "chat_api", "chat_api"),
        "expired": signer(now=1_000_000_000.0).mint("chat_api").encode(),
        "a refresh token": f"cqr_{uuid.uuid4().hex}_{'A' * 43}".encode(),
        "oversized": signer().mint("chat_api").encode() + b"A" * 5_000,
        "no ASCII": "ünïcödé.ünïcödé.ünïcödé".encode(),
        "a long key": b"cq_" + b"A" * 100_000,
        "NUL": b"a\x00b",
    }
    return {
        **{name: b"Bearer " + token for name, token in tokens.items()},
        "nothing": b"",
        "a scheme alone": b"Bearer",
        "another scheme": b"Basic YTpi",
    }


async def test_input_that_is_not_what_it_should_be(agent: httpx.AsyncClient) -> None:
    document = (await agent.get("/openapi.json")).json()
    tried = 0
    for operation in operations_of(document):
        attempts = [*bad_parameters(operation)]
        if operation.body_type == JSON_BODY:
            # The agent takes long conversations: a mebibyte of text is nothing to it.
            attempts += [attempt for attempt in bad_bodies(operation) if "mebibyte of text" not in attempt.name]
            attempts += bad_fields(operation)
        else:
            attempts += bad_headers(operation)
        for attempt in attempts:
            answer = await attempt.send(agent, operation, operation.url(IDS), good_credential())
            check_answer(answer, attempt, operation)
            tried += 1
    assert tried > 200


async def test_only_whom_it_knows_may_call_it(agent: httpx.AsyncClient) -> None:
    document = (await agent.get("/openapi.json")).json()
    guarded = [operation for operation in operations_of(document) if not operation.is_public]
    assert len(guarded) >= 4
    tried = set()
    for operation in guarded:
        for name, header in in_turn(list(wrong_credentials().items()), 4, operation):
            tried.add(name)
            answer = await agent.request(
                operation.method,
                operation.url(IDS),
                json=operation.body_example(),
                headers=[(b"Authorization", header)],
            )
            check_answer(answer, Attempt(name), operation)
            assert answer.status_code == 401, f"{operation}, {name}: {answer.text}"
            assert answer.headers["www-authenticate"] == "Bearer", f"{operation}, {name}"
    assert tried == wrong_credentials().keys()


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat/", "/v1/providers/", "/v2/chat", "/health/live/", "/docs/x"])
async def test_unknown_paths_are_problems_and_no_redirects(agent: httpx.AsyncClient, path: str) -> None:
    answer = await agent.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not-found"


async def test_wrong_methods_are_problems_that_name_the_right_ones(agent: httpx.AsyncClient) -> None:
    for path, allowed in {"/v1/chat": "POST", "/v1/providers": "GET", "/metrics": "GET"}.items():
        answer = await agent.request("DELETE", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["code"] == "method-not-allowed"
