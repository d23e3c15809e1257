"""What figures look like on the wire."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field

from shared.schema import ReadSchema, Timestamp

_EXAMPLE_ID = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"


class GroupBy(StrEnum):
    DAY = "day"
    MODEL = "model"
    PROVIDER = "provider"
    TOOL = "tool"


class GlobalGroupBy(StrEnum):
    DAY = "day"
    MODEL = "model"
    PROVIDER = "provider"
    TOOL = "tool"
    USER = "user"


class MessageCounts(ReadSchema):
    """Messages that are there: those that were deleted count no more."""

    total: int
    user: int
    assistant: int
    system: int
    tool: int


class RunCounts(ReadSchema):
    """Answers that ended, by how they did. Counted on the day on which they were asked for."""

    total: int
    completed: int
    failed: int
    cancelled: int


class ToolCounts(ReadSchema):
    """Calls of tools that ended, by how they did."""

    total: int
    succeeded: int
    failed: int
    rejected: int
    timed_out: int


class TokenCounts(ReadSchema):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class PercentilesRead(ReadSchema):
    """In milliseconds; null where nothing was timed."""

    p50: float | None
    p95: float | None
    p99: float | None


class RunFigures(ReadSchema):
    runs: RunCounts
    error_rate: float | None = Field(description="Failed runs divided by all that ended; null without any.")
    tokens: TokenCounts
    cost: float = Field(description="Of the runs whose model has a price, in the operator's currency.")
    latency_ms: PercentilesRead = Field(description="Of completed runs; to within a fifth.")
    time_to_first_token_ms: PercentilesRead


class Figures(RunFigures):
    sessions: int = Field(description="Sessions made, that are still there.")
    messages: MessageCounts
    tools: ToolCounts


class GlobalFigures(Figures):
    active_users: int = Field(description="People with a message of theirs that is still there.")


class DayFigures(Figures):
    day: date


class GlobalDayFigures(GlobalFigures):
    day: date


class ModelFigures(RunFigures):
    provider: str | None = Field(description="Null for runs that ended before anything said which it was.")
    model: str | None


class ProviderFigures(RunFigures):
    provider: str | None


class ToolFigures(ReadSchema):
    tool_name: str
    source: str
    calls: ToolCounts
    error_rate: float | None
    duration_ms: PercentilesRead


class UserFigures(Figures):
    user_id: UUID
    username: str | None


_PERCENTILES: dict[str, Any] = {"p50": 830.5, "p95": 2104.0, "p99": 3011.2}
_RUN_FIGURES: dict[str, Any] = {
    "runs": {"total": 24, "completed": 22, "failed": 1, "cancelled": 1},
    "error_rate": 0.0417,
    "tokens": {"prompt_tokens": 9120, "completion_tokens": 4210, "total_tokens": 13330},
    "cost": 0.0042,
    "latency_ms": _PERCENTILES,
    "time_to_first_token_ms": {"p50": 120.0, "p95": 410.5, "p99": 480.0},
}
_TOOLS: dict[str, Any] = {"total": 5, "succeeded": 4, "failed": 0, "rejected": 1, "timed_out": 0}
_FIGURES: dict[str, Any] = {
    **_RUN_FIGURES,
    "sessions": 3,
    "messages": {"total": 24, "user": 24, "assistant": 0, "system": 0, "tool": 0},
    "tools": _TOOLS,
}


class AnalyticsRead(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "from": "2026-01-01",
                "to": "2026-01-30",
                "group_by": "day",
                "totals": _FIGURES,
                "groups": [{**_FIGURES, "day": "2026-01-30"}],
            }
        }
    )

    from_: date = Field(alias="from", description="The first day, in UTC.")
    to: date = Field(description="The last day, itself included.")
    group_by: GroupBy
    totals: Figures
    groups: list[DayFigures] | list[ModelFigures] | list[ProviderFigures] | list[ToolFigures]


class GlobalAnalyticsRead(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "from": "2026-01-01",
                "to": "2026-01-30",
                "group_by": "model",
                "totals": {**_FIGURES, "active_users": 2},
                "groups": [{**_RUN_FIGURES, "provider": "openai", "model": "gpt-4o-mini"}],
            }
        }
    )

    from_: date = Field(alias="from", description="The first day, in UTC.")
    to: date = Field(description="The last day, itself included.")
    group_by: GlobalGroupBy
    totals: GlobalFigures
    groups: list[GlobalDayFigures] | list[ModelFigures] | list[ProviderFigures] | list[ToolFigures] | list[UserFigures]


class SessionCounts(ReadSchema):
    total: int
    active: int
    archived: int


class OpenRunCounts(RunCounts):
    queued: int
    running: int
    awaiting_approval: int


class ActiveUsers(ReadSchema):
    """People with a message of theirs of today, of the last 7 and of the last 30 days, today included, in UTC."""

    day: int
    week: int
    month: int


class GlobalStatistics(ReadSchema):
    """All that is there now, whenever it came."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "users": 12,
                "active_users": {"day": 2, "week": 5, "month": 9},
                "sessions": {"total": 40, "active": 38, "archived": 2},
                "messages": {"total": 480, "user": 240, "assistant": 240, "system": 0, "tool": 0},
                "runs": {
                    "total": 241,
                    "completed": 239,
                    "failed": 1,
                    "cancelled": 0,
                    "queued": 0,
                    "running": 1,
                    "awaiting_approval": 0,
                },
                "error_rate": 0.0042,
                "tokens": _RUN_FIGURES["tokens"],
                "cost": 0.0042,
                "latency_ms": _PERCENTILES,
                "time_to_first_token_ms": _PERCENTILES,
                "tools": _TOOLS,
                "bots": 4,
                "documents": 17,
            }
        }
    )

    users: int
    active_users: ActiveUsers
    sessions: SessionCounts
    messages: MessageCounts
    runs: OpenRunCounts
    error_rate: float | None = Field(description="Failed runs divided by all that ended; null without any.")
    tokens: TokenCounts
    cost: float
    latency_ms: PercentilesRead
    time_to_first_token_ms: PercentilesRead
    tools: ToolCounts
    bots: int
    documents: int


class SessionModel(ReadSchema):
    provider: str | None
    model: str | None
    runs: int
    tokens: TokenCounts
    cost: float


class SessionTool(ReadSchema):
    tool_name: str
    source: str
    calls: int
    succeeded: int
    failed: int
    rejected: int
    timed_out: int
    duration_ms: PercentilesRead


class SessionStatistics(ReadSchema):
    """Counted from the rows of the session themselves; percentiles are exact."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "session_id": _EXAMPLE_ID,
                "messages": {"total": 4, "user": 2, "assistant": 2, "system": 0, "tool": 0},
                "participants": 1,
                "first_message_at": "2026-01-31T09:29:00.000000Z",
                "last_message_at": "2026-01-31T09:30:00.000000Z",
                "runs": {
                    "total": 2,
                    "completed": 2,
                    "failed": 0,
                    "cancelled": 0,
                    "queued": 0,
                    "running": 0,
                    "awaiting_approval": 0,
                },
                "error_rate": 0.0,
                "tokens": {"prompt_tokens": 24, "completion_tokens": 60, "total_tokens": 84},
                "cost": 0.0,
                "latency_ms": _PERCENTILES,
                "time_to_first_token_ms": _PERCENTILES,
                "models": [
                    {
                        "provider": "local",
                        "model": "smollm2-135m-instruct",
                        "runs": 2,
                        "tokens": {"prompt_tokens": 24, "completion_tokens": 60, "total_tokens": 84},
                        "cost": 0.0,
                    }
                ],
                "tools": [
                    {
                        "tool_name": "calculator",
                        "source": "builtin",
                        "calls": 1,
                        "succeeded": 1,
                        "failed": 0,
                        "rejected": 0,
                        "timed_out": 0,
                        "duration_ms": {"p50": 12.0, "p95": 12.0, "p99": 12.0},
                    }
                ],
            }
        }
    )

    session_id: UUID
    messages: MessageCounts
    participants: int
    first_message_at: Timestamp | None
    last_message_at: Timestamp | None
    runs: OpenRunCounts
    error_rate: float | None = Field(description="Failed runs divided by all that ended; null without any.")
    tokens: TokenCounts
    cost: float
    latency_ms: PercentilesRead
    time_to_first_token_ms: PercentilesRead
    models: list[SessionModel]
    tools: list[SessionTool]
