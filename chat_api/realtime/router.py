"""The two addresses of sockets. They are not in the OpenAPI document, which knows HTTP only, but in AsyncAPI's."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from chat_api.kit.bound_route import API_PREFIX
from chat_api.realtime.gateway import Gateway

SOCKET_PATH = f"{API_PREFIX}/ws"
SESSION_SOCKET_PATH = f"{API_PREFIX}/ws/sessions/{{session_id}}"


class SocketEndpoint:
    """ASGI itself, without the framework's wrapper: a broadcast to many sockets is what a room costs."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway: Gateway = scope["app"].state.gateway
        await gateway(scope, receive, send)


def mount_sockets(app: FastAPI) -> None:
    endpoint = SocketEndpoint()
    app.router.routes.append(WebSocketRoute(SOCKET_PATH, endpoint))
    app.router.routes.append(WebSocketRoute(SESSION_SOCKET_PATH, endpoint))
