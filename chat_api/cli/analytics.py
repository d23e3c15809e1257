"""`colloquy analytics recount`: the figures against the rows that they are of."""

from __future__ import annotations

from chat_api.analytics.recount import Difference, Recount
from chat_api.cli.progress import progress
from chat_api.config import ApiSettings
from chat_api.kit.db import Database

_SHOWN = 20


async def recount(settings: ApiSettings, *, repair: bool) -> bool:
    """Tell where the figures differ, and mend them if that is wanted. Returns whether they are right at the end."""
    database = await Database.open(settings)
    try:
        counting = Recount(database)
        with progress("Counting", 2) as bar:
            found = await counting.differences(bar.update)
        _tell(found)
        if not found or not repair:
            return not found
        with progress("Mending", 2) as bar:
            changed = await counting.repair(bar.update)
        print(f"{changed} sums mended")
        return True
    finally:
        await database.close()


def _tell(found: list[Difference]) -> None:
    if not found:
        print("Every figure is what a recount gives")
        return
    print(f"{len(found)} sums differ; what they lack:")
    for one in found[:_SHOWN]:
        whose = "everybody" if one.user_id is None else str(one.user_id)
        what = " ".join(word for word in (one.subject, one.provider, one.name, one.outcome) if word)
        print(f"  {one.day} {whose}: {what}: {one.number:+d}, {one.total_tokens:+d} tokens")
    if len(found) > _SHOWN:
        print(f"  and {len(found) - _SHOWN} more")
