"""How much a server may send."""

from __future__ import annotations

import pytest

from agent_service.adapters.mcp_link import MAX_MESSAGE_BYTES, Flooded, FloodMeter

MIB = 1024 * 1024


async def test_a_burst_passes_and_more_of_it_does_not() -> None:
    meter = FloodMeter()
    meter.count(16 * MIB)
    with pytest.raises(Flooded):
        meter.count(1024 * MIB)  # more than any time since could allow


async def test_many_small_messages_are_a_flood_as_well() -> None:
    meter = FloodMeter()
    meter.count(0, messages=8_000)
    with pytest.raises(Flooded):
        meter.count(0, messages=500_000)


async def test_what_is_no_message_is_held_to_the_size_of_one() -> None:
    meter = FloodMeter()
    meter.hold(MAX_MESSAGE_BYTES)
    with pytest.raises(Flooded):
        meter.hold(MAX_MESSAGE_BYTES + 1)
