"""Exporting, importing, keeping and restoring one session of 100,000 messages: memory above idle, and how fast.

`python -m benchmarks.export`
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, number, print_figures
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import memory_mib
from benchmarks.stack import Server, Stack, stop_on_signals
from chat_api.kit.models import new_id

MESSAGES = 100_000
MEMORY_GOAL = Goal(50.0, Better.LOWER)
TITLE = f"One session of {MESSAGES:,} messages, one API process"

_SHORT_MESSAGES = 5_000
_FORMATS = ("json", "markdown", "csv")
_READ_BYTES = 64 * 1024
_BOUNDARY = "colloquy-benchmark"
_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class _Subject:
    api: Server
    person: seeding.Person
    session_id: UUID
    messages: int


def measure(stack: Stack, api: Server, plan: Plan) -> list[Figure]:
    messages = _SHORT_MESSAGES if plan.short else MESSAGES
    person, small, large = asyncio.run(_prepare(stack, messages))
    subject = _Subject(api, person, large, messages)
    # What the process needs once, for whatever size: imports, compiled statements, connections.
    for kind in _FORMATS:
        _drain(_get(subject, f"/sessions/{small}/export?format={kind}"))
    file = stack.folder / "exported.json"
    figures = [_export(subject, kind, file if kind == "json" else None) for kind in _FORMATS]
    figures.append(_whole(subject))
    figures.append(_import(subject, file))
    figures += _snapshots(subject)
    return figures


def _export(subject: _Subject, kind: str, file: Path | None) -> Figure:
    with _Memory(subject.api.pid) as memory:
        started = time.perf_counter()
        size = _drain(_get(subject, f"/sessions/{subject.session_id}/export?format={kind}"), file)
        seconds = time.perf_counter() - started
    return _figure(f"export, {kind}", subject, memory, seconds, size)


def _whole(subject: _Subject) -> Figure:
    with _Memory(subject.api.pid) as memory:
        started = time.perf_counter()
        size = _drain(_get(subject, f"/sessions/{subject.session_id}/full"))
        seconds = time.perf_counter() - started
    return _figure("all of it", subject, memory, seconds, size)


def _import(subject: _Subject, file: Path) -> Figure:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.json"\r\n\r\n'.encode()
    content = head + file.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    with _Memory(subject.api.pid) as memory:
        started = time.perf_counter()
        report = _post(subject, "/sessions/import", content, f"multipart/form-data; boundary={_BOUNDARY}")
        seconds = time.perf_counter() - started
    assert report["messages"] == subject.messages, report
    return _figure("import, json", subject, memory, seconds, len(content), goal=None)


def _snapshots(subject: _Subject) -> list[Figure]:
    figures = []
    path = f"/sessions/{subject.session_id}/snapshots"
    for name in ("take a snapshot", "restore it"):
        with _Memory(subject.api.pid) as memory:
            started = time.perf_counter()
            answer = _post(subject, path, b"{}")
            seconds = time.perf_counter() - started
        assert answer["message_count"] == subject.messages, answer
        figures.append(_figure(name, subject, memory, seconds, None, goal=None))
        path = f"/snapshots/{answer['id']}/restore"
    return figures


def _figure(
    name: str,
    subject: _Subject,
    memory: _Memory,
    seconds: float,
    size: int | None,
    goal: Goal | None = MEMORY_GOAL,
) -> Figure:
    rate = "" if size is None else f", {number(size / 1e6 / seconds)} MB/s"
    return Figure(
        name=name,
        ours=f"{number(seconds)} s, {number(subject.messages / seconds)} messages/s{rate}",
        limit=f"{number(memory.idle)} MiB before",
        judged=memory.grown,
        judged_as="MiB more",
        goal=goal,
    )


class _Memory:
    """Resident memory of a process while the block runs, against what it was before."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_over = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self.idle = self._most = memory_mib(pid)[0]

    @property
    def grown(self) -> float:
        return self._most - self.idle

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._is_over.wait(_SAMPLE_SECONDS):
            self._most = max(self._most, memory_mib(self._pid)[0])


async def _prepare(stack: Stack, messages: int) -> tuple[seeding.Person, UUID, UUID]:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        [person] = await seeding.add_people(connection, stack, 1)
        small, large = new_id(), new_id()
        await seeding.add_sessions(connection, [person.id], [small, large], "never")
        await seeding.add_messages(connection, [small], 10)
        await seeding.add_messages(connection, [large], messages)
    finally:
        await connection.close()
    return person, small, large


def _get(subject: _Subject, path: str) -> Iterator[bytes]:
    with _answered(subject, "GET", path, None, {}) as answer:
        while piece := answer.read(_READ_BYTES):
            yield piece


def _post(subject: _Subject, path: str, body: bytes, content_type: str = "application/json") -> dict[str, Any]:
    with _answered(subject, "POST", path, body, {"Content-Type": content_type}) as answer:
        document: dict[str, Any] = orjson.loads(answer.read())
        return document


@contextmanager
def _answered(
    subject: _Subject, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", subject.api.port, timeout=600)
    try:
        sent = headers | {"Authorization": f"Bearer {subject.person.token}"}
        connection.request(method, f"/api/v1{path}", body, sent)
        answer = connection.getresponse()
        assert answer.status < 300, answer.read()[:1000]
        yield answer
    finally:
        connection.close()


def _drain(pieces: Iterator[bytes], file: Path | None = None) -> int:
    """Read to the end, into a file if there is one; the number of bytes."""
    if file is None:
        return sum(len(piece) for piece in pieces)
    with file.open("wb") as target:
        return sum(target.write(piece) for piece in pieces)


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    with Stack() as stack:
        print_figures(TITLE, measure(stack, stack.api(), plan))


if __name__ == "__main__":
    main()
