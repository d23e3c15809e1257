"""What can be wrong with a caller or a credential."""

from __future__ import annotations

from uuid import UUID

from shared.problems import Forbidden, NotAuthenticated, Problem


class InsufficientScope(Forbidden):
    code = "insufficient-scope"
    title = "The API key's scopes do not allow this"
    detail = "Use a key that has the scope, or sign in."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'})


class AdminRequired(Forbidden):
    code = "admin-required"
    title = "Administrators only"
    detail = "This needs an administrator's account."


class RateLimited(Problem):
    status = 429
    code = "rate-limited"
    title = "Too many requests"
    detail = "You are asking more often than your plan allows. Wait as long as `Retry-After` says."
    retry_after = 1
    user_id: UUID | None = None
    """Who asked: no part of the answer."""


class TooManySignIns(Problem):
    status = 429
    code = "too-many-sign-ins"
    title = "Too many attempts to sign in"
    detail = "There were too many attempts from your address. Wait as long as `Retry-After` says."
    retry_after = 6


class InvalidCredentials(NotAuthenticated):
    """One answer for a wrong password, an unknown name and a closed account: it must not tell which."""

    code = "invalid-credentials"
    title = "The name or the password is wrong"
    detail = "Check the username or email, and the password."


class InvalidRefreshToken(NotAuthenticated):
    code = "invalid-refresh-token"
    title = "The refresh token is not valid"
    detail = "It is unknown, expired or revoked. Sign in again."


class RefreshTokenReused(NotAuthenticated):
    code = "refresh-token-reused"
    title = "The refresh token was used before"
    detail = "Somebody else may hold a copy, so every token of this sign-in is revoked. Sign in again."


class ApiKeyNotFound(Problem):
    status = 404
    code = "api-key-not-found"
    title = "API key not found"
    detail = "There is no such key, or it is not yours."
