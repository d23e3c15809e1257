"""Adds the password grant to the OpenAPI document, so that "Authorize" in /docs signs in with a password.

A permission is one dependency and FastAPI documents one scheme for each, so the second way to get the
same bearer token is written into the document once it is made.
"""

from __future__ import annotations

from typing import Any

from chat_api.auth.permissions import BEARER_SCHEME

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
