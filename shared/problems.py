"""Errors as typed problem documents (RFC 9457), the same over HTTP, SSE and between the services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_JSON = "application/problem+json"


class FieldError(BaseModel):
    """One thing that is wrong with the request: where, what, and pydantic's word for it."""

    loc: list[str | int]
    msg: str
    type: str


class ProblemDocument(BaseModel):
    """The body of every error answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Session not found",
                "status": 404,
                "detail": "There is no such session, or you do not take part in it.",
                "code": "session-not-found",
                "request_id": "0198f3a2c4e17d0c8f3e6b1a2d4c5e6f",
            }
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[FieldError] | None = Field(default=None, description="Present on 422: each thing that is wrong.")


class Problem(Exception):
    """An error that a caller can act on. Subclasses set `status`, `code`, `title` and a default `detail`.

    `retry_after` is in seconds and becomes the `Retry-After` header.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    detail: str = "Something went wrong on our side. The request id finds it in our logs."
    retry_after: int | None = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        errors: list[FieldError] | None = None,
    ) -> None:
        if detail is not None:
            self.detail = detail
        if retry_after is not None:
            self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.errors = errors
        super().__init__(self.detail)

    def document(self, request_id: str | None = None) -> ProblemDocument:
        return ProblemDocument(
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            request_id=request_id,
            errors=self.errors,
        )

    def as_json(self, request_id: str | None = None) -> dict[str, Any]:
        """The document as plain JSON, without the fields that are not set."""
        return self.document(request_id).model_dump(exclude_none=True)


class ValidationFailed(Problem):
    status = 422
    code = "validation-failed"
    title = "The request is not valid"
    detail = "See `errors` for what is wrong and where."


class MalformedRequest(Problem):
    status = 400
    code = "malformed-request"
    title = "The request could not be read"
    detail = "The body or the address is not well-formed."


class NotAuthenticated(Problem):
    status = 401
    code = "not-authenticated"
    title = "Not authenticated"
    detail = "Send `Authorization: Bearer <access token or API key>`."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    status = 403
    code = "forbidden"
    title = "Forbidden"
    detail = "You may see this, but not do this."


class PayloadTooLarge(Problem):
    status = 413
    code = "payload-too-large"
    title = "The request body is too large"
    detail = "Send a smaller body."


class ServiceUnavailable(Problem):
    status = 503
    code = "service-unavailable"
    title = "A store is unavailable"
    detail = "A store that this needs does not answer. Nothing was changed; try again."
    retry_after = 1
