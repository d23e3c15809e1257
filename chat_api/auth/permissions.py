"""Permission as a parameter type: a route says who may call it, and gets the verified caller.

Each is one dependency that reads the header itself, because it runs on the hottest path there is.
Every route has one of them, or `Public`; `is_permission` lets a test demand it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase

from chat_api.auth.actors import Actor, Scope
from chat_api.auth.authenticator import Authenticator
from chat_api.auth.errors import AdminRequired, InsufficientScope
from chat_api.auth.request_limits import RequestLimits
from shared.problems import NotAuthenticated

BEARER_SCHEME = "Bearer"
SERVICE_SCHEME = "ServiceToken"


class Permission(SecurityBase):
    """Lets a caller pass whose credential holds one scope, and who does not ask too often."""

    def __init__(self, scope: Scope) -> None:
        self.model = HTTPBearerModel(description="An access token of `POST /auth/token`, or an API key.")
        self.scheme_name = BEARER_SCHEME
        self._scope = scope

    async def __call__(self, request: Request) -> Actor:
        actor = await authenticator_of(request).authenticate(_bearer(request))
        await limits_of(request).admit(request, actor)
        if self._scope not in actor.scopes:
            raise InsufficientScope(f"This needs the scope `{self._scope}`.")
        return actor


class AdminPermission(Permission):
    """Lets administrators pass. Asks the database each time, so that a right taken away is gone at once."""

    def __init__(self) -> None:
        super().__init__(Scope.ADMIN)

    async def __call__(self, request: Request) -> Actor:
        actor = await super().__call__(request)
        if not await authenticator_of(request).is_admin(actor.user_id):
            raise AdminRequired
        return actor


class AgentPermission(SecurityBase):
    """Lets the agent service pass, with the token that it mints for us."""

    def __init__(self) -> None:
        self.model = HTTPBearerModel(description="The agent's own service token.", bearerFormat="JWT")
        self.scheme_name = SERVICE_SCHEME

    async def __call__(self, request: Request) -> None:
        authenticator_of(request).authenticate_agent(_bearer(request))


class PublicAccess:
    """Marks a route that needs nobody, so that a forgotten permission is told from a meant one."""

    async def __call__(self) -> None:
        return None


def authenticator_of(request: Request) -> Authenticator:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator


def limits_of(request: Request) -> RequestLimits:
    limits: RequestLimits = request.app.state.request_limits
    return limits


def _bearer(request: Request) -> str:
    # The raw headers, because building Starlette's Headers object costs more than the search.
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            scheme, _, credential = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and credential:
                return str(credential.strip())
            break
    raise NotAuthenticated


def is_permission(dependency: object) -> bool:
    """Whether a dependency of a route settles who may call it."""
    return isinstance(dependency, Permission | AgentPermission | PublicAccess)


ChatReader = Annotated[Actor, Depends(Permission(Scope.CHAT_READ))]
ChatWriter = Annotated[Actor, Depends(Permission(Scope.CHAT_WRITE))]
AgentInvoker = Annotated[Actor, Depends(Permission(Scope.AGENT_INVOKE))]
AccountHolder = Annotated[Actor, Depends(Permission(Scope.ADMIN))]
"""The person who signed in, or their API key with `admin`: may change the account and its keys.

Only administrators can make keys with that scope, so nobody else's key can widen itself.
"""
AdminActor = Annotated[Actor, Depends(AdminPermission())]
AgentCaller = Annotated[None, Depends(AgentPermission())]
Public = Depends(PublicAccess())
"""For `dependencies=[Public]`, on a route or a router."""
