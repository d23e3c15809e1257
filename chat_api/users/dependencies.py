"""Collaborators of the routes. All are coroutines: FastAPI runs plain functions in a thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from chat_api.auth.dependencies import TheAuthenticator, TheClock, TheSettings
from chat_api.kit.dependencies import Db, Statements
from chat_api.users.accounts import AccountService
from chat_api.users.directory import UserDirectory
from chat_api.users.passwords import PasswordHasher
from chat_api.users.sign_in import SignInService


async def get_passwords(request: Request) -> PasswordHasher:
    """One for the process, because the limit on hashing at a time is about its memory."""
    passwords: PasswordHasher = request.app.state.passwords
    return passwords


Passwords = Annotated[PasswordHasher, Depends(get_passwords)]


async def get_accounts(database: Statements, passwords: Passwords, clock: TheClock) -> AccountService:
    return AccountService(database, passwords, clock)


async def get_sign_in(
    database: Statements,
    authenticator: TheAuthenticator,
    passwords: Passwords,
    clock: TheClock,
    settings: TheSettings,
) -> SignInService:
    return SignInService(database, authenticator, passwords, clock, refresh_lifetime=settings.refresh_token_lifetime)


async def get_directory(db: Db) -> UserDirectory:
    return UserDirectory(db)


Accounts = Annotated[AccountService, Depends(get_accounts)]
SignIn = Annotated[SignInService, Depends(get_sign_in)]
Directory = Annotated[UserDirectory, Depends(get_directory)]
