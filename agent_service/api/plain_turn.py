"""The route of a turn as the chat API asks for it, which need not wait for FastAPI's dependency solver.

The solver inspects every parameter again on every request: about 0.5 ms before the model is asked. A request with a
service token and a valid body in JSON needs none of that. Every other one goes the usual way with its body, so that
refusals, API keys and what else there is are in one place.
"""

from __future__ import annotations

import json

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from agent_service.api.auth import service_caller
from agent_service.api.state import AgentState
from shared.contracts.chat import ChatRequest
from shared.web.event_stream import CLIENT_CLOSED


class PlainTurnRoute(APIRoute):
    """For an endpoint with the parameters of `chat`."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        state: AgentState = request.app.state.agent
        caller = service_caller(state, request.headers.get("authorization"))
        if caller is None or request.headers.get("content-type") != "application/json":
            await super().handle(scope, receive, send)
            return
        try:
            body = await request.body()
        except ClientDisconnect:
            await Response(status_code=CLIENT_CLOSED)(scope, receive, send)
            return
        turn = _turn(body)
        if turn is None:
            await super().handle(scope, _again(body, receive), send)
            return
        response: Response = await self.endpoint(
            request=request, turn=turn, state=state, caller=caller, accept=request.headers.get("accept")
        )
        await response(scope, receive, send)


def _turn(body: bytes) -> ChatRequest | None:
    """None for what is no turn: why, is said on the usual way."""
    try:
        return ChatRequest.model_validate(json.loads(body), from_attributes=True)
    except (ValueError, RecursionError):
        return None


def _again(body: bytes, receive: Receive) -> Receive:
    """The request once more, and then whatever else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again
