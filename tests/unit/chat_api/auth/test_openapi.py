"""What the OpenAPI document says about credentials."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from chat_api.auth.openapi import add_password_grant
from chat_api.auth.permissions import is_permission
from chat_api.auth.router import router as api_keys_router
from chat_api.users.router import router as users_router
from chat_api.users.router_auth import router as auth_router

ROUTERS = (auth_router, users_router, api_keys_router)
ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    return add_password_grant(app.openapi(), token_url="/api/v1/auth/token")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_says_who_may_call_it(route: APIRoute) -> None:
    assert any(is_permission(dependency.call) for dependency in route.dependant.dependencies)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_is_described(route: APIRoute, document: dict[str, Any]) -> None:
    for method in route.methods or ():
        operation = document["paths"][route.path][method.lower()]
        assert operation["summary"]
        assert operation["description"]
        refusals = [answer for status, answer in operation["responses"].items() if int(status) >= 400]
        assert refusals
        for answer in refusals:
            assert answer["content"]["application/problem+json"]["examples"]


def test_every_schema_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    ours = [name for name in schemas if name.startswith(("ApiKey", "User", "Registration", "Token", "RefreshToken"))]
    without = [name for name in ours if "example" not in schemas[name] and schemas[name]["type"] == "object"]

    assert without == []


def test_a_signed_in_person_may_come_by_bearer_token_or_by_password(document: dict[str, Any]) -> None:
    me = document["paths"]["/users/me"]["get"]
    flow = document["components"]["securitySchemes"]["OAuth2"]["flows"]["password"]

    assert me["security"] == [{"Bearer": []}, {"OAuth2": []}]
    assert flow["tokenUrl"] == "/api/v1/auth/token"
    assert "security" not in document["paths"]["/auth/token"]["post"]
    assert document["paths"]["/api-keys/introspect"]["post"]["security"] == [{"ServiceToken": []}]
