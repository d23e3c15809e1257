"""Collaborators of the routes, built per request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from chat_api.auth.dependencies import TheAuthenticator, TheClock
from chat_api.kit.dependencies import Statements
from chat_api.privacy.closing import AccountClosing
from chat_api.privacy.export import AccountExports
from chat_api.users.dependencies import Passwords


async def get_closing(
    database: Statements, passwords: Passwords, authenticator: TheAuthenticator, clock: TheClock
) -> AccountClosing:
    return AccountClosing(database, passwords, authenticator.closed, clock)


async def get_exports(request: Request) -> AccountExports:
    exports: AccountExports = request.app.state.account_exports
    return exports


Closing = Annotated[AccountClosing, Depends(get_closing)]
Exports = Annotated[AccountExports, Depends(get_exports)]
