"""Routes whose arguments are bound by a function of ours instead of FastAPI's dependency solver.

The solver inspects every parameter again on every request, which is half of what an append costs
(`docs/adr/0003`). For the two busiest routes a small function reads the same arguments from the request.
The signature stays the route's documentation, and stays true: a test sends good and bad requests through
both ways and compares the answers.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.problems import MalformedRequest

Binder = Callable[[Request], Awaitable[dict[str, Any]]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])
Model = TypeVar("Model", bound=BaseModel)

API_PREFIX = "/api/v1"
_BINDER = "__binder__"
_UUID: TypeAdapter[UUID] = TypeAdapter(UUID)


def bound_by(binder: Binder) -> Callable[[Endpoint], Endpoint]:
    """Have `binder` make the endpoint's keyword arguments. Only on a router with `BoundRoute`."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _BINDER, binder)
        return endpoint

    return mark


class BoundRoute(APIRoute):
    """An `APIRoute` that uses the endpoint's binder, if it has one.

    Errors that it raises go to the application's own handlers, as those of any other route.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        binder: Binder | None = getattr(self.endpoint, _BINDER, None)
        if binder is None or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        response: Response = await self.endpoint(**await binder(request))
        await response(scope, receive, send)


def operation_id(route: APIRoute) -> str:
    """Function names are unique, and what a generated client calls its methods."""
    return route.name


def bound_router(tag: str) -> APIRouter:
    """A router for bound routes, with whole paths.

    Its routes go straight into the application (`mount_bound`): those of an included router are matched twice.
    """
    return APIRouter(prefix=API_PREFIX, tags=[tag], route_class=BoundRoute, generate_unique_id_function=operation_id)


def mount_bound(app: FastAPI, router: APIRouter) -> None:
    app.router.routes.extend(router.routes)


def path_uuid(request: Request, name: str) -> UUID:
    """A path parameter as an id. Raises `RequestValidationError`."""
    try:
        return _UUID.validate_python(request.path_params[name])
    except ValidationError as error:
        raise located(error, "path", name) from None


async def json_body(request: Request, model: type[Model]) -> Model:
    """The body as `model`. Raises `MalformedRequest` or `RequestValidationError`."""
    raw = await request.body()
    if not raw:
        raise RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}])
    data: Any = raw
    if _is_json(request.headers.get("content-type")):
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError):
            raise MalformedRequest("The body is not valid JSON.") from None
    try:
        # As FastAPI does it, so that the words of the errors are the same.
        return model.model_validate(data, from_attributes=True)
    except ValidationError as error:
        raise located(error, "body") from None


def located(error: ValidationError, *where: str) -> RequestValidationError:
    """The same error, with the place in the request before the place in the value."""
    errors: Sequence[Any] = error.errors(include_url=False, include_context=False)
    return RequestValidationError([{**item, "loc": (*where, *item["loc"])} for item in errors])


def _is_json(content_type: str | None) -> bool:
    if not content_type:
        return False
    essence = content_type.split(";", 1)[0].strip().lower()
    kind, _, subtype = essence.partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))
