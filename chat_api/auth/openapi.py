"""Adds to the OpenAPI document what every permission brings with it.

A permission is one dependency and FastAPI documents one scheme for each, so the second way to get the same bearer
token is written into the document once it is made, for "Authorize" in /docs to sign in with a password. So are the
limits that a permission holds its callers to.
"""

from __future__ import annotations

from typing import Any

from chat_api.auth.errors import RateLimited
from chat_api.auth.permissions import BEARER_SCHEME
from chat_api.auth.request_limits import RATE_LIMIT_HEADERS
from shared.problems import PROBLEM_JSON
from shared.web.openapi import operations
from shared.web.responses import problems

PASSWORD_SCHEME = "OAuth2"  # noqa: S105 - the scheme's name


def add_password_grant(document: dict[str, Any], *, token_url: str) -> dict[str, Any]:
    """Let every operation that takes a bearer token also be called after the password grant."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[PASSWORD_SCHEME] = {
        "type": "oauth2",
        "description": "Sign in with a username or email address, and a password.",
        "flows": {"password": {"tokenUrl": token_url, "scopes": {}}},
    }
    for path in document.get("paths", {}).values():
        for operation in path.values():
            security = operation.get("security", []) if isinstance(operation, dict) else []
            if {BEARER_SCHEME: []} in security and {PASSWORD_SCHEME: []} not in security:
                security.append({PASSWORD_SCHEME: []})
    return document


_HEADERS = {
    "RateLimit-Limit": ("Requests of a minute that your plan allows.", {"type": "integer"}, 1200),
    "RateLimit-Remaining": ("How many of them are left.", {"type": "integer"}, 1187),
    "RateLimit-Reset": ("Seconds until the minute that runs is over.", {"type": "integer"}, 42),
    "RateLimit-Policy": ("The limit, and the seconds that it is counted by.", {"type": "string"}, "1200;w=60"),
}
assert tuple(_HEADERS) == RATE_LIMIT_HEADERS


def add_rate_limits(document: dict[str, Any]) -> dict[str, Any]:
    """Say of every operation behind a bearer token how often it may be called, and what its answers tell of that."""
    headers = document.setdefault("components", {}).setdefault("headers", {})
    for name, (description, schema, example) in _HEADERS.items():
        description += " Absent where your plan has no limit."
        headers[name] = {"description": description, "schema": schema, "example": example}
    refused = problems(RateLimited)[RateLimited.status]
    for _, _, operation in operations(document):
        if {BEARER_SCHEME: []} not in operation.get("security", []):
            continue
        responses = operation["responses"]
        documented = responses.setdefault("429", {"description": refused["description"]})
        documented.setdefault("headers", {}).update(refused["headers"])
        content = documented.setdefault("content", {})
        if not content or PROBLEM_JSON in content:
            content.setdefault(PROBLEM_JSON, {"schema": refused["content"][PROBLEM_JSON]["schema"], "examples": {}})
            content[PROBLEM_JSON]["examples"].update(refused["content"][PROBLEM_JSON]["examples"])
        for status, response in responses.items():
            # Other errors have them too; to say so of each would double the document.
            if not status.startswith("2") and status != "429":
                continue
            shown = response.setdefault("headers", {})
            shown.update({name: {"$ref": f"#/components/headers/{name}"} for name in RATE_LIMIT_HEADERS})
    return document
