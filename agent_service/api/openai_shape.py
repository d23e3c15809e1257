"""OpenAI's shape of errors, for the routes that its clients call."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from shared.problems import Problem
from shared.web.responses import field_errors


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """What OpenAI's clients turn into their exceptions."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {
                    "message": "The model `gpt-9` does not exist.",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "model-not-found",
                }
            }
        }
    )

    error: OpenAIErrorDetail


class OpenAIProblem(Problem):
    """A problem that names the parameter it is about."""

    param: str | None = None


class InvalidParameter(OpenAIProblem):
    status = 400
    code = "invalid-parameter"
    title = "The request is not valid"

    def __init__(self, detail: str, param: str) -> None:
        super().__init__(detail)
        self.param = param


class UnknownModel(OpenAIProblem):
    status = 404
    code = "model-not-found"
    title = "There is no such model"
    param = "model"


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def openai_response(problem: Problem) -> Response:
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    param = problem.param if isinstance(problem, OpenAIProblem) else None
    body = OpenAIError(error=OpenAIErrorDetail(message=problem.detail, type=kind, param=param, code=problem.code))
    headers = dict(problem.headers)
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    return Response(body.model_dump_json(), status_code=problem.status, headers=headers, media_type="application/json")


def _from_validation(error: RequestValidationError) -> Problem:
    # OpenAI answers 400 where the rest of this service answers 422, and names one parameter.
    first = field_errors(error)[0]
    names = [str(part) for part in first.loc if part != "body"]
    return InvalidParameter(first.msg, names[0] if names else "body")


class OpenAIRoute(APIRoute):
    """Answers problems in OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_openai(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return openai_response(_from_validation(error))
            except Problem as problem:
                return openai_response(problem)

        return handle_openai


def openai_errors(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """`responses=` for a route: every error it can give, by status, in OpenAI's shape."""
    documented: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = documented.setdefault(kind.status, {"model": OpenAIError, "description": kind.title})
        if kind.title not in entry["description"]:
            entry["description"] += f" · {kind.title}"
    return documented
