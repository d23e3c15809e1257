"""Importing many small conversations: how many a second beside their rows alone, and memory above idle.

`python -m benchmarks.imports`
"""

from __future__ import annotations

import asyncio
import http.client
import time
from typing import Any

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, number, print_figures
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import cpu_seconds, memory_mib
from benchmarks.stack import Server, Stack, stop_on_signals
from chat_api.kit.models import new_id

CONVERSATIONS = 20_000
MESSAGES_EACH = 4
GOAL = Goal(0.40, Better.HIGHER)
MEMORY_GOAL = Goal(80.0, Better.LOWER)

_SHORT = 200
_BEGUN = 1_700_000_000
_ROWS_AT_ONCE = 500


def measure(stack: Stack, api: Server, plan: Plan) -> list[Figure]:
    conversations = _SHORT if plan.short else CONVERSATIONS
    person = asyncio.run(_new_person(stack))
    # What the process needs once, for whatever size: imports, compiled statements, connections.
    _import(api, person, _file(20, "warm-up"))
    body = _file(conversations, "measured")
    idle = memory_mib(api.pid)[0]
    bare = conversations / asyncio.run(_rows_alone(stack, conversations))
    rate, cpu = _timed(api, person, body, conversations, "imported")
    most = memory_mib(api.pid)[1]
    again, again_cpu = _timed(api, person, body, conversations, "already_there")
    return [
        Figure(
            f"import, {len(body) / 1e6:.1f} MB",
            _told(rate, cpu),
            f"rows alone {number(bare)} a second",
            judged=rate / bare,
            judged_as="ratio",
            goal=GOAL,
        ),
        Figure("the same file again", _told(again, again_cpu)),
        Figure(
            "memory of the process",
            f"{number(most)} MiB at most",
            f"{number(idle)} MiB before",
            judged=most - idle,
            judged_as="MiB more",
            goal=MEMORY_GOAL,
        ),
    ]


def title(plan: Plan) -> str:
    conversations = _SHORT if plan.short else CONVERSATIONS
    return f"{conversations:,} conversations of {MESSAGES_EACH} messages each in ChatGPT's file, one API process"


def _told(rate: float, cpu_ms: float) -> str:
    return f"{number(rate)} conversations a second, {number(cpu_ms)} ms of the process for each"


def _timed(api: Server, person: seeding.Person, body: bytes, conversations: int, outcome: str) -> tuple[float, float]:
    """Conversations a second, and milliseconds of processor time of the API for each."""
    used, started = cpu_seconds(api.pid), time.perf_counter()
    report = _import(api, person, body)
    seconds, used = time.perf_counter() - started, cpu_seconds(api.pid) - used
    assert report[outcome] == conversations, {name: report[name] for name in ("imported", "already_there")}
    return conversations / seconds, used * 1000 / conversations


async def _new_person(stack: Stack) -> seeding.Person:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        [person] = await seeding.add_people(connection, stack, 1)
    finally:
        await connection.close()
    return person


async def _rows_alone(stack: Stack, conversations: int) -> float:
    """Seconds for as many sessions and messages in statements of their own, indexed and counted like any others."""
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        [person] = await seeding.add_people(connection, stack, 1)
        started = time.perf_counter()
        async with connection.transaction():
            for begin in range(0, conversations, _ROWS_AT_ONCE):
                ids = [new_id() for _ in range(min(_ROWS_AT_ONCE, conversations - begin))]
                await seeding.add_sessions(connection, [person.id], ids, "never")
                await seeding.add_messages(connection, ids, MESSAGES_EACH)
        return time.perf_counter() - started
    finally:
        await connection.close()


def _file(conversations: int, name: str) -> bytes:
    return orjson.dumps([_conversation(f"{name}-{index}", index) for index in range(conversations)])


def _conversation(conversation_id: str, index: int) -> dict[str, Any]:
    mapping: dict[str, Any] = {"root": {"id": "root", "parent": None, "children": ["1"], "message": None}}
    parent = "root"
    for place in range(1, MESSAGES_EACH + 1):
        role = "user" if place % 2 else "assistant"
        mapping[str(place)] = {
            "id": str(place),
            "parent": parent,
            "children": [str(place + 1)],
            "message": {
                "id": str(place),
                "author": {"role": role, "name": None, "metadata": {}},
                "create_time": _BEGUN + index * 1000 + place,
                "content": {"content_type": "text", "parts": [f"{seeding.CONTENT} {index} {place}"]},
                "status": "finished_successfully",
                "metadata": {"model_slug": "gpt-4o"} if role == "assistant" else {},
            },
        }
        parent = str(place)
    return {
        "title": f"Notes {index}",
        "create_time": _BEGUN + index * 1000,
        "update_time": _BEGUN + index * 1000 + 10,
        "mapping": mapping,
        "current_node": parent,
        "conversation_id": conversation_id,
    }


def _import(api: Server, person: seeding.Person, body: bytes) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=1200)
    try:
        headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/sessions/import", body, headers)
        answer = connection.getresponse()
        document = answer.read()
        assert answer.status == 201, document[:1000]
        report: dict[str, Any] = orjson.loads(document)
        return report
    finally:
        connection.close()


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    with Stack() as stack:
        print_figures(title(plan), measure(stack, stack.api(), plan))


if __name__ == "__main__":
    main()
