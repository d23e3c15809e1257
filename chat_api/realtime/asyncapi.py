"""The AsyncAPI document of the WebSockets: what OpenAPI, which knows HTTP only, cannot say.

It is made of the models that frames are read with and held to, so that it cannot say anything else than they do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat_api.realtime import errors, frames
from chat_api.realtime.router import SESSION_SOCKET_PATH, SOCKET_PATH
from chat_api.realtime.socket import CloseCode
from chat_api.realtime.vocabulary import EVENTS
from chat_api.runs.errors import TooManyMessages
from chat_api.sessions.schemas import SessionRead
from shared.problems import NotAuthenticated, Problem, ServiceUnavailable, ValidationFailed

Json = dict[str, Any]

VERSION = "3.0.0"
"""Of the specification: https://www.asyncapi.com/docs/reference/specification/v3.0.0"""
DOCUMENT_PATH = "/asyncapi.json"

_SCHEMAS = "#/components/schemas/"
_STREAM_TAG = "event streams"

CLOSE_CODES: dict[int, str] = {
    1009: "A frame was larger than 64 KiB.",
    CloseCode.INTERNAL: "A fault of the server's. Reconnect and recover.",
    CloseCode.RESTART: "The server restarts. Reconnect and recover.",
    CloseCode.NOT_AUTHENTICATED: "No good credential in time, or it is good no longer.",
    CloseCode.FORBIDDEN: "Pages of this origin may not connect, or the session of the address is not yours to see.",
    CloseCode.TOO_SLOW: "You did not read fast enough. Reconnect and recover.",
    CloseCode.RATE_LIMIT: "Too many frames, or too many sockets. Wait before you reconnect.",
}
PROBLEMS: tuple[type[Problem], ...] = (
    errors.MalformedFrame,
    ValidationFailed,
    NotAuthenticated,
    errors.OriginNotAllowed,
    errors.AlreadyAuthenticated,
    errors.NotSubscribed,
    errors.BoundToSession,
    errors.TooManySubscriptions,
    errors.TooManyFrames,
    errors.TooManySockets,
    TooManyMessages,
    ServiceUnavailable,
)
"""What a frame can be refused with, beside what the same thing is refused with over REST."""

_DESCRIPTION = """
Sessions, live. Frames are JSON objects in text frames, 64 KiB at most, told apart by `type`.

* **Who you are.** Connect with `?ticket=` (of `POST /api/v1/auth/ws-ticket`), or send `authenticate` within 10 s.
  `ready` says that you are known. Pages in a browser must be of this host, or of an origin that the server allows.
* **Order.** What happens in a session is numbered: `event_seq` is 1, 2, 3 … without gaps, the same for everybody.
  Frames without a number (deltas, `typing`, `presence`) are worth nothing a second later.
* **Recovery.** `subscribe` with the last `event_seq` that you have. `recovered: true`: everything after it comes next,
  in order, none lost and none twice, then live. `recovered: false`: nothing is replayed; read the session over REST.
* **Saying something** is safe once `ack` is there. Send it again with the same `client_id` if it does not come.

Close codes:

"""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the document."""

    name: str
    title: str
    summary: str
    model: type[BaseModel]
    mode: JsonSchemaMode
    examples: tuple[Json, ...]
    description: str = ""
    in_streams: bool = False


def _frame(title: str, model: type[BaseModel], mode: JsonSchemaMode, *examples: Json, description: str = "") -> Frame:
    summary, _, more = (model.__doc__ or "").strip().partition("\n\n")
    return Frame(
        name=model.model_fields["type"].annotation.__args__[0],  # type: ignore[union-attr]  # a Literal of one word
        title=title,
        summary=summary,
        model=model,
        mode=mode,
        examples=examples or (_example_of(model),),
        description=" ".join((more + description).split()),
    )


def _example_of(model: type[BaseModel]) -> Json:
    extra = model.model_config["json_schema_extra"]
    assert isinstance(extra, dict)
    example = extra["example"]
    assert isinstance(example, dict)
    return dict(example)


def _subscribed() -> Json:
    session = _example_of(SessionRead)
    return {
        "type": "subscribed",
        "session_id": session["id"],
        "session": session,
        "last_event_seq": 42,
        "recovered": True,
        "presence": [{"id": session["owner_id"], "username": "rosa"}],
    }


def _refusal(problem: type[Problem]) -> Json:
    # The class's own words: some of these are made with more to say than a class knows.
    document = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": "7f3a2c4e17d0c8f3-7",
        "errors": None,
    }
    return {"type": "error", "problem": document, "in_reply_to": None, "retry_after": problem.retry_after}


CLIENT_FRAMES = (
    _frame("Authenticate", frames.Authenticate, "validation"),
    _frame("Subscribe", frames.Subscribe, "validation"),
    _frame("Unsubscribe", frames.Unsubscribe, "validation"),
    _frame("Send a message", frames.SendMessage, "validation"),
    _frame("Typing", frames.Typing, "validation"),
    _frame("Read", frames.Read, "validation"),
    _frame("Cancel a run", frames.CancelRun, "validation"),
    _frame("Decide on a tool", frames.DecideTool, "validation"),
    _frame("Ping", frames.Ping, "validation"),
)
ANSWERS = (
    _frame("Ready", frames.Ready, "serialization"),
    _frame("Subscribed", frames.Subscribed, "serialization", _subscribed()),
    _frame("Unsubscribed", frames.Unsubscribed, "serialization"),
    _frame("Acknowledged", frames.Ack, "serialization"),
    _frame(
        "Error",
        frames.Error,
        "serialization",
        _example_of(frames.Error),
        *(_refusal(problem) for problem in PROBLEMS),
        description="`problem` is the body that REST answers with (RFC 9457).",
    ),
    _frame("Pong", frames.Pong, "serialization"),
)
EVENT_FRAMES = tuple(
    Frame(
        event.kind,
        event.title,
        event.summary,
        event.frame,
        "serialization",
        (event.frame_example,),
        description="" if event.is_durable else "It has no number, and is not replayed.",
        in_streams=event.in_streams,
    )
    for event in EVENTS
)
FRAMES = (*CLIENT_FRAMES, *ANSWERS, *EVENT_FRAMES)

_REPLIES = {
    "authenticate": ["ready", "error"],
    "subscribe": ["subscribed", "error"],
    "unsubscribe": ["unsubscribed"],
    "message.send": ["ack", "error"],
    "typing": ["error"],
    "read": ["error"],
    "run.cancel": ["error"],
    "tool.decide": ["error"],
    "ping": ["pong"],
}
_CHANNELS = {
    "ws": (SOCKET_PATH, "Many sessions", "One socket for all the sessions that you `subscribe` to."),
    "session": (
        SESSION_SOCKET_PATH,
        "One session",
        "Connecting is subscribing: `subscribed` follows `ready`. What is not yours to see closes the socket.",
    ),
}


def asyncapi_document(version: str) -> Json:
    """The whole document. `version` is of the service."""
    references, schemas = _schemas()
    messages = {frame.name: _message(frame, references[frame.model, frame.mode]) for frame in FRAMES}
    codes = "\n".join(f"* `{int(code)}` {meaning}" for code, meaning in sorted(CLOSE_CODES.items()))
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Colloquy chat API: WebSockets",
            "version": version,
            "description": _DESCRIPTION.strip() + f"\n\n{codes}\n",
            "tags": [{"name": _STREAM_TAG, "description": "Server-sent events of runs have these as well."}],
        },
        "defaultContentType": "application/json",
        "servers": {
            "here": {
                "host": "{host}",
                "protocol": "ws",
                "description": "`wss` where the service is reached by https.",
                "variables": {"host": {"default": "localhost:8000"}},
                "security": [
                    {"$ref": "#/components/securitySchemes/ticket"},
                    {"$ref": "#/components/securitySchemes/firstFrame"},
                ],
            }
        },
        "channels": {name: _channel(name, address) for name, (address, _, _) in _CHANNELS.items()},
        "operations": {key: value for name in _CHANNELS for key, value in _operations(name)},
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "ticket": {
                    "type": "httpApiKey",
                    "name": "ticket",
                    "in": "query",
                    "description": "Of `POST /api/v1/auth/ws-ticket`: good for one connection within seconds.",
                },
                "firstFrame": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token or an API key, in the first frame: `authenticate`.",
                },
            },
        },
    }


def _schemas() -> tuple[dict[tuple[type[BaseModel], JsonSchemaMode], str], Json]:
    """Of every frame, where its schema is; and all the schemas."""
    wanted = [(frame.model, frame.mode) for frame in FRAMES]
    found, definitions = models_json_schema(wanted, ref_template=_SCHEMAS + "{model}")
    references = {key: schema["$ref"] for key, schema in found.items()}
    schemas: Json = definitions["$defs"]
    for schema in schemas.values():
        # Messages have their own examples. OpenAPI's `example` is no word of JSON Schema.
        schema.pop("example", None)
        schema.pop("discriminator", None)
    return {(model, mode): references[model, mode] for model, mode in wanted}, dict(sorted(schemas.items()))


def _message(frame: Frame, reference: str) -> Json:
    description = frame.description
    if frame.in_streams:
        description = f"{description} Event streams have it as `event: {frame.name}`, with `data` alone.".strip()
    named = len(frame.examples) > 1
    message: Json = {
        "name": frame.name,
        "title": frame.title,
        "summary": " ".join(frame.summary.split()),
        "payload": {"$ref": reference},
        "examples": [
            {"name": example["problem"]["code"], "payload": example} if named else {"payload": example}
            for example in frame.examples
        ],
    }
    if description:
        message["description"] = description
    if frame.in_streams:
        message["tags"] = [{"name": _STREAM_TAG}]
    return message


def _channel(name: str, address: str) -> Json:
    _, title, summary = _CHANNELS[name]
    query: Json = {"ticket": {"type": "string", "description": "Instead of `authenticate`."}}
    channel: Json = {
        "address": address,
        "title": title,
        "summary": summary,
        "messages": {frame.name: {"$ref": f"#/components/messages/{frame.name}"} for frame in FRAMES},
    }
    if name == "session":
        channel["parameters"] = {"session_id": {"description": "Id of the session."}}
        query["after_seq"] = {
            "type": "integer",
            "minimum": 0,
            "description": "As in `subscribe`: `event_seq` of the last event that you have.",
        }
    channel["bindings"] = {
        "ws": {"method": "GET", "query": {"type": "object", "properties": query}, "bindingVersion": "0.1.0"}
    }
    return channel


def _operations(channel: str) -> Iterable[tuple[str, Json]]:
    """From the server's side, as AsyncAPI has it: it receives what clients send."""
    here = {"$ref": f"#/channels/{channel}"}

    def of_channel(names: Iterable[str]) -> list[Json]:
        return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]

    for frame in CLIENT_FRAMES:
        yield (
            f"{channel}.{frame.name}",
            {
                "action": "receive",
                "channel": here,
                "title": frame.title,
                "summary": " ".join(frame.summary.split()),
                "messages": of_channel([frame.name]),
                "reply": {"channel": here, "messages": of_channel(_REPLIES[frame.name])},
            },
        )
    yield (
        f"{channel}.events",
        {
            "action": "send",
            "channel": here,
            "title": "Events",
            "summary": "What happens in the sessions that the socket follows, and `unsubscribed` where that ends.",
            "messages": of_channel(["ready", "unsubscribed", "error", *(frame.name for frame in EVENT_FRAMES)]),
        },
    )


async def _read_document(request: Request) -> Response:
    return Response(
        json.dumps(asyncapi_document(request.app.version), ensure_ascii=False), media_type="application/json"
    )


def asyncapi_route() -> Route:
    """The document, for everybody."""
    return Route(DOCUMENT_PATH, _read_document, methods=["GET"], name="asyncapi")
