"""What the routes of webhooks take and give."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from chat_api.sessions.models import EventType
from chat_api.webhooks.models import DeliveryStatus, DisabledReason
from shared.schema import ReadSchema, Timestamp, WriteSchema
from shared.web.addresses import MAX_ADDRESS_CHARACTERS

_WEBHOOK: JsonDict = {
    "id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
    "url": "https://hooks.example.com/colloquy",
    "description": "notes for the archive",
    "event_types": ["message.created", "run.completed"],
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "created_at": "2026-01-31T09:30:00.000000Z",
    "updated_at": "2026-01-31T09:30:00.000000Z",
}
_SECRET = "whsec_b2RkbHktc2hhcGVkLWxpZ2h0aG91c2UtYnktdGhlLXNlYQ=="  # noqa: S105 - an example

Url = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_ADDRESS_CHARACTERS),
    Field(description="Public, and `https`. Names are looked up anew, and checked, at each delivery."),
]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
EventTypes = Annotated[
    list[EventType], Field(max_length=len(EventType), description="Which events are told. Empty: all.")
]


class WebhookCreate(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "url": "https://hooks.example.com/colloquy",
                "description": "notes for the archive",
                "event_types": ["message.created", "run.completed"],
            }
        },
    )

    url: Url
    description: Description = ""
    event_types: EventTypes = Field(default_factory=list)


class WebhookPatch(WriteSchema):
    """Only the fields that are sent change."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"enabled": True}})

    # The defaults mean nothing. They are factories so that the OpenAPI document names none: a generated client would
    # send it with every change.
    url: Url = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    event_types: EventTypes = Field(default_factory=list)
    enabled: bool = Field(default_factory=bool, strict=True, description="Enabling forgets what failed before.")


class WebhookRead(ReadSchema):
    model_config = ConfigDict(json_schema_extra={"example": _WEBHOOK})

    id: UUID
    url: str
    description: str
    event_types: list[EventType]
    enabled: bool
    disabled_reason: DisabledReason | None = Field(
        description="`owner`: you said so. `gone`: it answered 410. `failing`: it failed for five days."
    )
    failing_since: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class WebhookWithSecret(WebhookRead):
    model_config = ConfigDict(json_schema_extra={"example": {**_WEBHOOK, "secret": _SECRET}})

    secret: str = Field(description="What signatures are made with. Shown here and never again.")


class DeliveryProblem(BaseModel):
    """Why the last attempt failed."""

    code: str
    title: str
    detail: str


class DeliveryRead(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "0198f3a2-d000-7d0c-8f3e-6b1a2d4c5e6f",
                "webhook_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
                "session_id": "0198f3a2-0000-7d0c-8f3e-6b1a2d4c5e6f",
                "event_seq": 12,
                "type": "message.created",
                "status": "pending",
                "attempts": 1,
                "response_status": 500,
                "problem": {
                    "code": "webhook-refused",
                    "title": "The endpoint refused it",
                    "detail": "The endpoint did not answer with a status of 200 to 299.",
                },
                "duration_ms": 31,
                "next_attempt_at": "2026-01-31T09:30:05.000000Z",
                "created_at": "2026-01-31T09:30:00.000000Z",
                "finished_at": None,
            }
        }
    )

    id: UUID = Field(description="`webhook-id` of every attempt: a receiver that has seen it is told twice.")
    webhook_id: UUID
    session_id: UUID | None = Field(description="Null for a test.")
    event_seq: int | None = Field(description="The event's number in its session. Null for a test.")
    type: str
    status: DeliveryStatus
    attempts: int
    response_status: int | None = Field(description="What the endpoint answered last.")
    problem: DeliveryProblem | None
    duration_ms: int | None = Field(description="Of the last attempt.")
    next_attempt_at: Timestamp | None
    created_at: Timestamp
    finished_at: Timestamp | None
