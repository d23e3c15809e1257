from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from agent_service.ports.tools import ToolContext, ToolFailed
from agent_service.tools.current_time import CurrentTime

CONTEXT = ToolContext(run_id=UUID(int=1))
WINTER = datetime(2026, 1, 31, 23, 30, 5, 123456, tzinfo=UTC)
SUMMER = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "zone", "text"),
    [
        (WINTER, None, "2026-01-31T23:30:05+00:00, Saturday, UTC (UTC)"),
        (WINTER, "", "2026-01-31T23:30:05+00:00, Saturday, UTC (UTC)"),
        (WINTER, "utc", "2026-01-31T23:30:05+00:00, Saturday, utc (UTC)"),
        (WINTER, "Europe/Berlin", "2026-02-01T00:30:05+01:00, Sunday, Europe/Berlin (UTC+01:00)"),
        (SUMMER, "Europe/Berlin", "2026-07-01T14:00:00+02:00, Wednesday, Europe/Berlin (UTC+02:00)"),
        (SUMMER, "Asia/Kolkata", "2026-07-01T17:30:00+05:30, Wednesday, Asia/Kolkata (UTC+05:30)"),
        (SUMMER, "America/St_Johns", "2026-07-01T09:30:00-02:30, Wednesday, America/St_Johns (UTC-02:30)"),
        (WINTER, "Pacific/Kiritimati", "2026-02-01T13:30:05+14:00, Sunday, Pacific/Kiritimati (UTC+14:00)"),
    ],
)
async def test_tells_the_time_of_the_zone(now: datetime, zone: str | None, text: str) -> None:
    arguments = {} if zone is None else {"timezone": zone}
    assert (await CurrentTime(lambda: now).call(arguments, CONTEXT)).text == text


async def test_tells_the_time_of_now() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    told = datetime.fromisoformat((await CurrentTime().call({}, CONTEXT)).text.split(",")[0])
    assert before <= told <= datetime.now(UTC)


@pytest.mark.parametrize(("zone", "suggestion"), [("tokyo", "Asia/Tokyo"), ("Europe/New_York", "America/New_York")])
async def test_suggests_the_zone_that_was_meant(zone: str, suggestion: str) -> None:
    with pytest.raises(ToolFailed, match=f"Did you mean {suggestion}"):
        await CurrentTime().call({"timezone": zone}, CONTEXT)


@pytest.mark.parametrize(
    "zone",
    [
        "Nowhere/City",
        "Europe",
        "Europe/",
        "/etc/passwd",
        "../../../etc/passwd",
        "/",
        "a" * 64,
        "-",
        "_",
        "Europe//Berlin",
    ],
)
async def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(ToolFailed, match="no time zone"):
        await CurrentTime().call({"timezone": zone}, CONTEXT)
