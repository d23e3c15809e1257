"""Routes of people: oneself, and the list of others."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from chat_api.auth.errors import InsufficientScope
from chat_api.auth.permissions import AccountHolder, ChatReader
from chat_api.kit.dependencies import Cursor, Limit
from chat_api.kit.pagination import InvalidCursor, Page
from chat_api.users.dependencies import Accounts, Directory
from chat_api.users.errors import EmailTaken, UsernameTaken, WrongPassword
from chat_api.users.schemas import UserPatch, UserRead, UserSummary
from shared.problems import MalformedRequest, NotAuthenticated, PayloadTooLarge, ServiceUnavailable, ValidationFailed
from shared.web.responses import problems

router = APIRouter(prefix="/users", tags=["Accounts"])

_ALWAYS = (NotAuthenticated, InsufficientScope, ServiceUnavailable)
Prefix = Annotated[
    str, Query(max_length=64, description="The beginning of the username, in any case. Empty: everybody.")
]


@router.get(
    "/me",
    response_model=UserRead,
    summary="My account",
    description="The account that the token or the API key belongs to.",
    responses=problems(*_ALWAYS),
)
async def read_me(actor: ChatReader, accounts: Accounts) -> UserRead:
    return await accounts.read(actor.user_id)


@router.patch(
    "/me",
    response_model=UserRead,
    summary="Change my account",
    description=(
        "Only the fields that are sent are changed. A new email address or password needs `current_password`; a new "
        "password ends every sign-in, so that a thief is locked out. Needs a person who signed in, or an "
        "administrator's API key with `admin`."
    ),
    responses=problems(
        *_ALWAYS, MalformedRequest, PayloadTooLarge, ValidationFailed, EmailTaken, UsernameTaken, WrongPassword
    ),
)
async def update_me(actor: AccountHolder, body: UserPatch, accounts: Accounts) -> UserRead:
    return await accounts.change(actor.user_id, body)


@router.get(
    "",
    response_model=Page[UserSummary],
    summary="Find people",
    description="Active accounts by username, to invite them to a session. Shows nothing private.",
    responses=problems(*_ALWAYS, ValidationFailed, InvalidCursor),
)
async def list_users(
    _: ChatReader, directory: Directory, q: Prefix = "", cursor: Cursor = None, limit: Limit = 50
) -> Page[UserSummary]:
    return await directory.page(prefix=q, cursor=cursor, limit=limit)
