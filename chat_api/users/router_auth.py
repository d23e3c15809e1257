"""Routes of registration and signing in. None needs a caller: they are how one becomes one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response, status

from chat_api.auth.errors import InvalidCredentials, InvalidRefreshToken, RefreshTokenReused, TooManySignIns
from chat_api.auth.permissions import Public, limits_of
from chat_api.users.dependencies import Accounts, SignIn
from chat_api.users.errors import EmailTaken, UsernameTaken
from chat_api.users.schemas import RefreshTokenBody, Registration, TokenForm, Tokens, UserRead
from shared.problems import MalformedRequest, PayloadTooLarge, ServiceUnavailable, ValidationFailed
from shared.web.responses import problems

router = APIRouter(prefix="/auth", tags=["Accounts"], dependencies=[Public])

_ALWAYS = (MalformedRequest, PayloadTooLarge, ValidationFailed, ServiceUnavailable)
_NO_STORE = {"Cache-Control": "no-store"}
_NO_STORE_DOC: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"Cache-Control": {"description": "`no-store`", "schema": {"type": "string"}}}}
}


@router.post(
    "/register",
    status_code=status.HTTP_201_CREATED,
    response_model=UserRead,
    summary="Register",
    description=(
        "Email addresses and usernames are unique, whatever their case. `Idempotency-Key` is not used here: there "
        "is no account yet that the stored answer could belong to, and the name itself is only given once."
    ),
    responses=problems(*_ALWAYS, EmailTaken, UsernameTaken, TooManySignIns),
)
async def register(request: Request, body: Registration, accounts: Accounts) -> UserRead:
    await limits_of(request).admit_sign_in(request, None)
    return await accounts.register(body)


@router.post(
    "/token",
    response_model=Tokens,
    summary="Sign in",
    description=(
        "OAuth2's password grant. `username` takes a username or an email address, in any case. The answer is the "
        "same, and takes as long, for a wrong password and for a name that does not exist."
    ),
    responses=_NO_STORE_DOC | problems(*_ALWAYS, InvalidCredentials, TooManySignIns),
)
async def create_token(
    request: Request, form: Annotated[TokenForm, Form()], sign_in: SignIn, response: Response
) -> Tokens:
    await limits_of(request).admit_sign_in(request, form.username)
    response.headers.update(_NO_STORE)
    return await sign_in.sign_in(form.username, form.password)


@router.post(
    "/refresh",
    response_model=Tokens,
    summary="Renew the tokens",
    description=(
        "Gives a new access token and a new refresh token; the one that was sent is used up. A refresh token that "
        "comes a second time was copied, so it ends the whole sign-in: 401 `refresh-token-reused`."
    ),
    responses=_NO_STORE_DOC | problems(*_ALWAYS, InvalidRefreshToken, RefreshTokenReused, TooManySignIns),
)
async def refresh_token(request: Request, body: RefreshTokenBody, sign_in: SignIn, response: Response) -> Tokens:
    await limits_of(request).admit_sign_in(request, None)
    response.headers.update(_NO_STORE)
    return await sign_in.refresh(body.refresh_token)


@router.post(
    "/logout",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Sign out",
    description="Ends the sign-in that the refresh token belongs to. The answer is the same for an unknown token.",
    responses=problems(*_ALWAYS),
)
async def logout(body: RefreshTokenBody, sign_in: SignIn) -> None:
    await sign_in.sign_out(body.refresh_token)
