"""The plans of the very statements that a request runs: PostgreSQL's own `auto_explain` writes them down.

So nothing has to be copied out of the services to be explained, and a plan that is only seen with a prepared
statement's real parameters is the one that is shown.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.stack import Server, Stack

_SETTINGS = {
    "session_preload_libraries": "'auto_explain'",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "'json'",
    "auto_explain.log_level": "'log'",
    # Ids and words of people who do not exist; a log is no place for them all the same.
    "auto_explain.log_parameter_max_length": "0",
}
_PLAN = re.compile(r"LOG:  duration: ([\d.]+) ms  plan:$")
_WARM_UPS = 6
"""After five a prepared statement may get its generic plan."""
_RUNS = 5
_SECONDS = 5.0


@dataclass
class Plan:
    """One statement. `indexes` are those that it reads by; `scanned` the tables that it reads from end to end."""

    statement: str
    milliseconds: float
    indexes: list[str] = field(default_factory=list)
    scanned: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, milliseconds: float, logged: dict[str, Any]) -> Plan:
        plan = cls(logged.get("Query Text", ""), milliseconds)
        for node in _nodes(logged["Plan"]):
            if "Index Name" in node:
                plan.indexes.append(node["Index Name"])
            elif node["Node Type"] == "Seq Scan":
                plan.scanned.append(node["Relation Name"])
        return plan


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for part in node.get("Plans", ()):
        yield from _nodes(part)


async def explain_from_now_on(stack: Stack, database: str) -> None:
    """For every connection that is made to the database after this."""
    connection = await asyncpg.connect(stack.superuser_dsn(database))
    try:
        for name, value in _SETTINGS.items():
            await connection.execute(f"ALTER DATABASE {database} SET {name} = {value}")
    finally:
        await connection.close()


def plans_of(stack: Stack, server: Server, request: bytes) -> list[Plan]:
    """The statements of a request that was asked before, and the least time that each ask took in PostgreSQL.

    `server` was started after `explain_from_now_on`.
    """
    for _ in range(_WARM_UPS):
        _ask(server, request)
    asked = [_plans_of_one(stack.postgres.log_path, server, request) for _ in range(_RUNS)]
    return min(asked, key=lambda plans: sum(plan.milliseconds for plan in plans))


def _plans_of_one(log: Path, server: Server, request: bytes) -> list[Plan]:
    # What belongs to the requests before is in the log by now: each was answered after its statements ended.
    start = log.stat().st_size
    _ask(server, request)
    deadline = time.monotonic() + _SECONDS
    while not (plans := [Plan.of(took, logged) for took, logged in _logged(log, start)]):
        assert time.monotonic() < deadline, "auto_explain has written nothing"
        time.sleep(0.05)
    return plans


def _ask(server: Server, request: bytes) -> None:
    start, _, sent = request.partition(b"\r\n\r\n")
    head, *lines = start.decode("latin-1").split("\r\n")
    method, path, _ = head.split(" ")
    headers = dict(line.split(": ", 1) for line in lines if line)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, body=sent or None, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body[:500])
    finally:
        connection.close()


def _logged(log: Path, start: int) -> Iterator[tuple[float, dict[str, Any]]]:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    for number, line in enumerate(lines):
        if match := _PLAN.search(line):
            body = []
            for following in lines[number + 1 :]:
                if not following.startswith("\t"):
                    break
                body.append(following)
            yield float(match[1]), json.loads("\n".join(body))
