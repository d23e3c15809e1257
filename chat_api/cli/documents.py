"""The OpenAPI documents of both services, and the AsyncAPI document of the WebSockets, as they are committed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import click


def openapi_document(service: str) -> str:
    """The document as text that ends with a line break, in an order that does not change by itself."""
    return _as_text(_ours() if service == "chat_api" else _agents())


def sockets_document() -> str:
    """The AsyncAPI document, the same way."""
    from chat_api.config import ApiSettings
    from chat_api.main import create_app
    from chat_api.realtime.asyncapi import asyncapi_document

    return _as_text(asyncapi_document(create_app(ApiSettings.load()).version))


def _as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _ours() -> dict[str, Any]:
    from chat_api.config import ApiSettings
    from chat_api.main import create_app

    document: dict[str, Any] = create_app(ApiSettings.load()).openapi()
    return document


def _agents() -> dict[str, Any]:
    # In a process of its own: the chat API imports nothing of the agent.
    done = subprocess.run(
        [sys.executable, "-m", "agent_service", "--openapi"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise click.ClickException(f"the agent service gave no document: {done.stderr.strip()[-300:]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document
