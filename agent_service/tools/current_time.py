"""Tells the time, which no model knows."""

from __future__ import annotations

import asyncio
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any

from agent_service.ports.tools import BUILTIN, ToolContext, ToolFailed, ToolOutput, ToolSpec
from shared.contracts.tools import ToolRisk

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MOST_SUGGESTIONS = 5


def _utc_now() -> datetime:
    return datetime.now(UTC)


class CurrentTime:
    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self.spec = ToolSpec(
            name="current_time",
            title="Current time",
            description="Tells the current date, weekday and time, in UTC or in a time zone.",
            source=BUILTIN,
            risk=ToolRisk.SAFE,
            repeatable=True,
            parameters={
                "type": "object",
                "properties": {
                    "timezone": {
                        "type": "string",
                        "description": "IANA name such as Europe/Berlin. Leave it out for UTC.",
                        "pattern": "^[A-Za-z0-9_+/-]*$",
                        "maxLength": 64,
                    }
                },
                "additionalProperties": False,
            },
            timeout_seconds=5.0,
        )

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolOutput:
        name = arguments.get("timezone") or "UTC"
        # The zones are files.
        zone = await asyncio.to_thread(_zone, name)
        now = self._now().astimezone(zone)
        offset = now.strftime("%z")
        about = f"UTC{offset[:3]}:{offset[3:5]}" if now.utcoffset() else "UTC"
        return ToolOutput(f"{now.isoformat(timespec='seconds')}, {_WEEKDAYS[now.weekday()]}, {name} ({about})")


def _zone(name: str) -> tzinfo:
    if name.upper() in {"UTC", "Z"}:
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        # Names that are folders or leave the folder of zones end here too.
        close = _close_to(name)
    if close:
        raise ToolFailed(f"There is no time zone {name}. Did you mean {', '.join(close)}?")
    raise ToolFailed(f"There is no time zone {name}. Use an IANA name such as Europe/Berlin, or leave it out for UTC.")


def _close_to(name: str) -> list[str]:
    wanted = name.casefold().rsplit("/", 1)[-1].replace(" ", "_").replace("-", "_")
    known = sorted(zoneinfo.available_timezones())
    same = [zone for zone in known if zone.casefold().rsplit("/", 1)[-1].replace("-", "_") == wanted]
    # Old spellings of a zone stand beside it without a continent.
    return (sorted(same, key=lambda zone: "/" not in zone) if wanted else [])[:_MOST_SUGGESTIONS]
