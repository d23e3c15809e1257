"""Who is calling: the chat API with a service token, or a person's program with an API key."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from agent_service.api.state import AgentState, State
from agent_service.domain.problems import ChatApiUnavailable
from shared.problems import Forbidden, NotAuthenticated, Problem
from shared.security import InvalidToken

API_KEY_PREFIX = "cq_"
SCOPE = "agent:invoke"
_MAX_KEY_CHARS = 200

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="A service token of the chat API, or an API key (`cq_…`) with the scope `agent:invoke`.",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """`user_id` is the owner of the API key; a service has none."""

    name: str
    user_id: UUID | None


async def _caller(
    state: State, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if credentials is None:
        raise NotAuthenticated
    token = credentials.credentials
    if token.startswith(API_KEY_PREFIX):
        return await _key_owner(state, token)
    try:
        return _service(state, token)
    except InvalidToken:
        raise NotAuthenticated("The token is malformed, expired, or not meant for this service.") from None


def service_caller(state: AgentState, authorization: str | None) -> Caller | None:
    """The service whose token the header holds. None for everything else, also for what is no good."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme != "Bearer" or token.startswith(API_KEY_PREFIX):
        return None
    try:
        return _service(state, token)
    except InvalidToken:
        return None


def _service(state: AgentState, token: str) -> Caller:
    """Raises `InvalidToken`."""
    name = state.remembered.get(token, time.time())
    if name is None:
        claims = state.callers.verify(token)
        name = claims.subject
        state.remembered.put(token, name, claims.expires_at)
    return Caller(name=name, user_id=None)


async def _key_owner(state: State, key: str) -> Caller:
    if len(key) > _MAX_KEY_CHARS or not key.isascii():
        raise NotAuthenticated("The API key is unknown, revoked or expired.")
    owner = await state.keys.introspect(key)
    if not owner.active or owner.user_id is None:
        raise NotAuthenticated("The API key is unknown, revoked or expired.")
    if SCOPE not in owner.scopes:
        raise Forbidden(f"The API key lacks the scope `{SCOPE}`.")
    return Caller(name=f"user:{owner.user_id}", user_id=owner.user_id)


AuthenticatedCaller = Annotated[Caller, Depends(_caller)]
AUTH_PROBLEMS: tuple[type[Problem], ...] = (NotAuthenticated, Forbidden, ChatApiUnavailable)
