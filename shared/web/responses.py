"""Problem answers, and how they are written into the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from shared.logging import get_logger, request_id_var
from shared.problems import (
    PROBLEM_JSON,
    FieldError,
    MalformedRequest,
    PayloadTooLarge,
    Problem,
    ValidationFailed,
)

log = get_logger("http")

_LONGEST_PART = 200
_HTTP_CODES = {404: "not-found", 405: "method-not-allowed", 415: "unsupported-media-type"}


class _HttpProblem(Problem):
    """A problem that Starlette raised itself: no such route, no such method."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None) -> None:
        super().__init__(detail, headers=headers)
        self.status = status  # type: ignore[misc]  # one class for the few that the framework raises
        self.code = _HTTP_CODES.get(status, f"http-{status}")  # type: ignore[misc]
        self.title = detail  # type: ignore[misc]


ProblemShape = Callable[[Problem, str], Response]
"""Makes the answer to a request of this path. Some doors have a shape of errors that is not ours."""


def as_document(problem: Problem, path: str) -> Response:
    return problem_response(problem, request_id_var.get())


def problem_response(problem: Problem, request_id: str | None) -> Response:
    headers = dict(problem.headers)
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    body = orjson.dumps(problem.as_json(request_id))
    return Response(body, status_code=problem.status, headers=headers, media_type=PROBLEM_JSON)


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """`responses=` for a route: every problem it can give, by status, each with an example."""
    by_status: dict[int, list[type[Problem]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    documented: dict[int | str, dict[str, Any]] = {}
    for status, group in by_status.items():
        # No "model": FastAPI would document it as `application/json` as well. `complete` adds its schema.
        documented[status] = {
            "description": " · ".join(dict.fromkeys(kind.title for kind in group)),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/ProblemDocument"},
                    "examples": {
                        kind.code: {
                            "summary": kind.title,
                            "value": {
                                "type": "about:blank",
                                "title": kind.title,
                                "status": kind.status,
                                "detail": kind.detail,
                                "code": kind.code,
                                "request_id": "0198f3a2c4e17d0c8f3e6b1a2d4c5e6f",
                            },
                        }
                        for kind in group
                    },
                }
            },
        }
        if any(kind.retry_after is not None for kind in group):
            documented[status]["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            }
    return documented


def _printable(part: str | int) -> str | int:
    """A location as it may be sent: a field name of the caller's own may hold lone surrogates, or be huge."""
    return part[:_LONGEST_PART].encode("utf-8", "backslashreplace").decode() if isinstance(part, str) else part


def field_errors(error: RequestValidationError | ValidationError) -> list[FieldError]:
    """What is wrong, without echoing the input: it may be large, or secret."""
    return [
        FieldError(loc=[_printable(part) for part in item["loc"]], msg=str(_printable(item["msg"])), type=item["type"])
        for item in error.errors()[:50]
    ]


def _methods_of(request: Request) -> list[str]:
    """Every method of the path. The framework only names those of the first route that has the path."""
    path = request.scope["path"]
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path is not None and compile_path(route.path)[0].fullmatch(path):
            found |= route.methods or set()
    return sorted(found)


def _of_http(request: Request, error: HTTPException) -> Problem:
    if error.status_code == 400:
        return MalformedRequest()
    if error.status_code == PayloadTooLarge.status:
        return PayloadTooLarge(str(error.detail))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_of(request))
    return _HttpProblem(error.status_code, str(error.detail), headers)


def _of_validation(error: RequestValidationError) -> Problem:
    errors = field_errors(error)
    if any(item.type == "json_invalid" for item in errors):
        return MalformedRequest("The body is not valid JSON.")
    return ValidationFailed(errors=errors)


def install_problem_handlers(app: FastAPI, shape: ProblemShape = as_document) -> None:
    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return shape(error, request.url.path)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return shape(_of_validation(error), request.url.path)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return shape(_of_http(request, error), request.url.path)

    async def on_unexpected(request: Request, error: Exception) -> Response:
        # Starlette re-raises after this answer, so the server logs the trace; the caller only sees the id.
        log.error("http.unexpected", error=type(error).__name__)
        # It is sent from outside our middleware, which adds the id to every other answer.
        return shape(Problem(headers={"X-Request-ID": request_id_var.get() or ""}), request.url.path)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_unexpected)
