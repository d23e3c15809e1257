"""Who may call: the chat API, and people's programs whose API key says so."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest
import respx

from agent_service.adapters.chat_api_keys import PATH
from agent_service.config import AgentSettings
from agent_service.main import create_app
from shared.security import ServiceName, TokenKind, TokenSigner, service_signer
from shared.settings import DEVELOPMENT_SERVICE_KEY

URL = f"http://chat-api.test{PATH}"
OWNER = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"
KEY = {"Authorization": "Bearer cq_secret"}


def introspection(*scopes: str, active: bool = True) -> httpx.Response:
    return httpx.Response(200, json={"active": active, "user_id": OWNER if active else None, "scopes": list(scopes)})


@pytest.fixture
def stranger(agent_settings: Callable[..., AgentSettings]) -> httpx.AsyncClient:
    """A client that shows no token of its own."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(agent_settings())), base_url="http://agent.test")


def forged(**changes: object) -> str:
    values: dict[str, object] = {
        "key": DEVELOPMENT_SERVICE_KEY,
        "kind": TokenKind.SERVICE,
        "issuer": "chat_api",
        "audience": "agent_service",
        "now": time.time,
    }
    values |= changes
    from datetime import timedelta

    return TokenSigner(lifetime=timedelta(minutes=5), **values).mint("chat_api")  # type: ignore[arg-type]  # test data


async def test_the_chat_api_may_call(stranger: httpx.AsyncClient, service_token: str) -> None:
    response = await stranger.get("/v1/providers", headers={"Authorization": f"Bearer {service_token}"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer nonsense",
        "Basic dXNlcjpwYXNz",
        f"Bearer {forged(key='another-key-of-thirty-two-bytes-or-more')}",
        f"Bearer {forged(kind=TokenKind.ACCESS)}",
        f"Bearer {forged(issuer='agent_service', audience='chat_api')}",
        f"Bearer {forged(now=lambda: time.time() - 3600)}",
        f"Bearer cq_{'x' * 300}",
    ],
)
async def test_nobody_else_may(stranger: httpx.AsyncClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (("POST", "/v1/chat"), ("GET", "/v1/providers")):
        response = await stranger.request(method, path, headers=headers, json={} if method == "POST" else None)
        assert response.status_code in (401, 422) if method == "POST" else response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
    response = await stranger.get("/v1/models", headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.headers["www-authenticate"] == "Bearer"


async def test_an_api_key_with_the_scope_may_call(stranger: httpx.AsyncClient, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).mock(return_value=introspection("chat:read", "agent:invoke"))
    for _ in range(3):
        assert (await stranger.get("/v1/providers", headers=KEY)).status_code == 200
    assert route.call_count == 1, "the answer is remembered"
    request = route.calls[0].request
    signer = service_signer(DEVELOPMENT_SERVICE_KEY, issuer=ServiceName.AGENT_SERVICE, audience=ServiceName.CHAT_API)
    assert signer.verify(request.headers["authorization"].removeprefix("Bearer ")).subject == "agent_service"
    assert request.content == b'{"key":"cq_secret"}'


@pytest.mark.parametrize(
    ("answer", "status"),
    [(introspection("chat:read"), 403), (introspection(active=False), 401)],
)
async def test_an_api_key_without_it_may_not(
    stranger: httpx.AsyncClient, respx_mock: respx.MockRouter, answer: httpx.Response, status: int
) -> None:
    respx_mock.post(URL).mock(return_value=answer)
    assert (await stranger.get("/v1/providers", headers=KEY)).status_code == status


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(500),
        httpx.Response(401),
        httpx.Response(200, text="nonsense"),
        httpx.ConnectError("down"),
        httpx.ReadTimeout("slow"),
    ],
)
async def test_without_the_chat_api_nobody_can_tell(
    stranger: httpx.AsyncClient, respx_mock: respx.MockRouter, trouble: httpx.Response | Exception
) -> None:
    route = respx_mock.post(URL)
    if isinstance(trouble, Exception):
        route.mock(side_effect=trouble)
    else:
        route.mock(return_value=trouble)
    response = await stranger.get("/v1/providers", headers=KEY)
    assert response.status_code == 503
    assert response.json()["code"] == "chat-api-unavailable"
    assert int(response.headers["retry-after"]) >= 1
    route.mock(return_value=introspection("agent:invoke"))
    assert (await stranger.get("/v1/providers", headers=KEY)).status_code == 200, "a failure is not remembered"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/openapi.json"])
async def test_health_is_open(stranger: httpx.AsyncClient, path: str) -> None:
    assert (await stranger.get(path)).status_code == 200
