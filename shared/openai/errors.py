"""OpenAI's shape of errors, for the routes that its clients call."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from shared.openai.error_body import OpenAIError, OpenAIErrorDetail
from shared.problems import FieldError, Problem, ProblemDocument
from shared.web.responses import ProblemShape, as_document, field_errors

DO_NOT_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients try 408, 409, 429 and 5xx again by themselves, unless an answer has this header."""

_MODEL_CODES = frozenset({"model-not-found", "model-not-configured"})
_MOST_PLACES = 6


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


class TurnAlreadyBegun(OpenAIProblem):
    """A client tries again by itself, and cannot know that its first attempt reached the model."""

    status = 409
    code = "turn-already-begun"
    title = "An earlier attempt of this request was begun"
    detail = (
        "The client repeats a request whose answer it did not wait for, or lost. That turn was handed to a model, and"
        " is not run twice. Send the request anew if it is to run again, or give the client more time."
    )

    def __init__(self) -> None:
        super().__init__(headers=DO_NOT_RETRY)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way out: as an answer, or within a stream that has begun."""

    status: int
    error: OpenAIError
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        return Response(
            self.error.model_dump_json(),
            status_code=self.status,
            headers=self.headers,
            media_type="application/json",
        )


def failure_of(
    document: ProblemDocument,
    *,
    param: str | None = None,
    retry_after: int | None = None,
    headers: dict[str, str] | None = None,
) -> Failure:
    """A problem in OpenAI's words: it answers 404 for a model that is not there, and 400 where we answer 422."""
    status = document.status
    if document.code in _MODEL_CODES:
        status, param = UnknownModel.status, param or UnknownModel.param
    elif status == 422:
        status = InvalidParameter.status
    detail = OpenAIErrorDetail(message=document.detail, type=_kind(status), param=param, code=document.code)
    sent = dict(headers or {})
    if retry_after is not None:
        sent["Retry-After"] = str(retry_after)
    return Failure(status, OpenAIError(error=detail), sent)


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def _kind(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def openai_response(problem: Problem) -> Response:
    param = problem.param if isinstance(problem, OpenAIProblem) else None
    failure = failure_of(problem.document(), param=param, retry_after=problem.retry_after, headers=problem.headers)
    return failure.response()


def openai_shape_at(paths: re.Pattern[str]) -> ProblemShape:
    """For what no route of ours answers: paths and methods that there are not, and bodies that are too large."""

    def shape(problem: Problem, path: str) -> Response:
        return openai_response(problem) if paths.fullmatch(path) else as_document(problem, path)

    return shape


def invalid(errors: list[FieldError], *, top: str = "body") -> InvalidParameter:
    """OpenAI answers 400 where we answer 422, and names one parameter."""
    first = errors[0]
    if first.type == "json_invalid":
        return InvalidParameter("The body is not valid JSON.", top)
    places = [str(part) for part in first.loc if part != "body"]
    where = ".".join(places[:_MOST_PLACES])
    return InvalidParameter(first.msg if len(places) < 2 else f"{where}: {first.msg}", places[0] if places else top)


class OpenAIRoute(APIRoute):
    """Answers problems in OpenAI's shape."""

    async def admit(self, request: Request) -> None:
        """Called before the body is read, for what may be refused without it. Raises `Problem`."""

    @staticmethod
    def problem_behind(error: Exception) -> Problem | None:
        """What an error of another kind means, where a service knows; None lets it pass."""
        return None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_openai(request: Request) -> Response:
            try:
                await self.admit(request)
                return await handle(request)
            except RequestValidationError as error:
                return openai_response(invalid(field_errors(error)))
            except Problem as problem:
                return openai_response(problem)
            except Exception as error:
                problem_behind = self.problem_behind(error)
                if problem_behind is None:
                    raise
                return openai_response(problem_behind)

        return handle_openai


def openai_errors(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """`responses=` for a route: every error it can give, by status, in OpenAI's shape."""
    documented: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status = failure_of(ProblemDocument(title="", status=kind.status, detail="", code=kind.code)).status
        entry = documented.setdefault(status, {"model": OpenAIError, "description": kind.title})
        if kind.title not in entry["description"]:
            entry["description"] += f" · {kind.title}"
    return documented
