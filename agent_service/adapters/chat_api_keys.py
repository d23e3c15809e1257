"""Asks the chat API whom an API key belongs to."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from pydantic import ValidationError

from agent_service.domain.problems import ChatApiUnavailable
from shared.contracts.introspection import KeyIntrospection, KeyIntrospectionRequest
from shared.logging import get_logger, request_id_var

log = get_logger("chat_api")

PATH = "/api/v1/api-keys/introspect"


class ChatApiKeys:
    """A `KeyIntrospector` over HTTP. `service_token` makes the bearer token that the chat API wants."""

    def __init__(self, client: httpx.AsyncClient, *, base_url: str, service_token: Callable[[], str]) -> None:
        self._client = client
        self._url = base_url + PATH
        self._service_token = service_token

    async def introspect(self, key: str) -> KeyIntrospection:
        headers = {"Authorization": f"Bearer {self._service_token()}"}
        if (request_id := request_id_var.get()) is not None:
            headers["X-Request-ID"] = request_id
        body = KeyIntrospectionRequest(key=key).model_dump()
        try:
            response = await self._client.post(self._url, json=body, headers=headers)
        except httpx.TransportError as error:
            log.warning("introspection.failed", error=type(error).__name__)
            raise ChatApiUnavailable from None
        if response.status_code != 200:
            log.warning("introspection.refused", status=response.status_code)
            raise ChatApiUnavailable
        try:
            return KeyIntrospection.model_validate_json(response.content)
        except ValidationError:
            log.warning("introspection.unreadable")
            raise ChatApiUnavailable from None
