"""Routes of API keys."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response, status

from chat_api.auth.dependencies import ApiKeys, TheAuthenticator, TheSeal
from chat_api.auth.errors import ApiKeyNotFound, InsufficientScope
from chat_api.auth.permissions import AccountHolder, AgentCaller
from chat_api.auth.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from chat_api.kit.dependencies import Cursor, Db, Limit
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.pagination import InvalidCursor, Page
from shared.contracts.introspection import KeyIntrospection, KeyIntrospectionRequest
from shared.problems import MalformedRequest, NotAuthenticated, PayloadTooLarge, ServiceUnavailable, ValidationFailed
from shared.web.responses import problems

router = APIRouter(prefix="/api-keys", tags=["API keys"])

_ALWAYS = (NotAuthenticated, InsufficientScope, ServiceUnavailable)
_BODY = (MalformedRequest, PayloadTooLarge, ValidationFailed)
NO_STORE = {"Cache-Control": "no-store"}


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=ApiKeyCreated,
    summary="Make an API key",
    description=(
        "The key is in this answer and nowhere else. Its scopes are at most the caller's own, and `admin` is for "
        "administrators. A key can make keys only if it has `admin` itself; a person who signed in always can."
    ),
    responses=problems(*_ALWAYS, *_BODY, IdempotencyKeyReused),
)
async def create_api_key(
    *,
    request: Request,
    actor: AccountHolder,
    body: ApiKeyCreate,
    db: Db,
    keys: ApiKeys,
    seal: TheSeal,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    answer = await create_once(
        db,
        request,
        user_id=actor.user_id,
        key=idempotency_key,
        body=body,
        create=lambda: keys.create(actor, body),
        seal=seal,
    )
    answer.headers.update(NO_STORE)
    return answer


@router.get(
    "",
    response_model=Page[ApiKeyRead],
    summary="List my API keys",
    description="Live keys, newest first. The keys themselves are not stored, so they cannot be shown again.",
    responses=problems(*_ALWAYS, ValidationFailed, InvalidCursor),
)
async def list_api_keys(
    actor: AccountHolder, keys: ApiKeys, cursor: Cursor = None, limit: Limit = 50
) -> Page[ApiKeyRead]:
    return await keys.page(actor, cursor=cursor, limit=limit)


@router.delete(
    "/{key_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Revoke an API key",
    description="It stops working at once.",
    responses=problems(*_ALWAYS, ApiKeyNotFound, ValidationFailed),
)
async def revoke_api_key(actor: AccountHolder, key_id: UUID, keys: ApiKeys) -> None:
    await keys.revoke(actor, key_id)


@router.post(
    "/introspect",
    response_model=KeyIntrospection,
    summary="Whom an API key belongs to",
    description="For the agent service, with its service token. `active` is false for a key that cannot be used.",
    responses=problems(NotAuthenticated, ServiceUnavailable, *_BODY),
)
async def introspect_api_key(
    _: AgentCaller, body: KeyIntrospectionRequest, authenticator: TheAuthenticator, response: Response
) -> KeyIntrospection:
    response.headers.update(NO_STORE)
    actor = await authenticator.authenticate_key(body.key)
    if actor is None:
        return KeyIntrospection(active=False, user_id=None, scopes=[])
    return KeyIntrospection(active=True, user_id=actor.user_id, scopes=sorted(actor.scopes))
