"""The worker as a process: told to stop, killed, and without Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.ports import free_port
from tests.factories.document_jobs import DocumentJobs, document_jobs
from tests.stores import Database

# Starting a process takes seconds, and on a busy machine ten times as long.
pytestmark = pytest.mark.timeout(600)

SHUTDOWN_SECONDS = 2.0
LEASE_SECONDS = 8.0
"""So long that a slow machine does not miss a heartbeat."""
PATIENCE_SECONDS = 60.0
"""For what happens at once: the agent hangs for ever, so whoever waited for it would not be back by then."""


class HangingAgent:
    """Takes every call, and says nothing. `calls` are those that are open."""

    def __init__(self) -> None:
        self.calls = 0
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[HangingAgent]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def until(self, calls: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.calls != calls:
                await asyncio.sleep(0.01)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        try:
            while await reader.read(65536):
                pass
        except OSError:
            pass
        finally:
            self.calls -= 1
            writer.close()


@pytest.fixture
async def jobs(clean_database: Database, tmp_path: Path) -> AsyncIterator[DocumentJobs]:
    async with document_jobs(clean_database.api_url, tmp_path) as jobs:
        yield jobs


@pytest.fixture
async def agent() -> AsyncIterator[HangingAgent]:
    async with HangingAgent().serving() as agent:
        yield agent


@asynccontextmanager
async def worker(jobs: DocumentJobs, agent: HangingAgent, redis_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    url = jobs.settings.database_url
    assert url is not None
    environment = {
        "COLLOQUY_ENVIRONMENT": "test",
        "COLLOQUY_DATA_DIR": str(jobs.settings.data_dir),
        "COLLOQUY_DATABASE_URL": url.get_secret_value(),
        "COLLOQUY_REDIS_URL": redis_url,
        "COLLOQUY_AGENT_URL": agent.url,
        "COLLOQUY_MESSAGE_EMBEDDINGS": "false",  # the calls that are counted are those of jobs
        "COLLOQUY_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
        "COLLOQUY_JOB_LEASE_SECONDS": str(LEASE_SECONDS),
        "COLLOQUY_JOB_HEARTBEAT_SECONDS": "0.3",
        "COLLOQUY_JOB_POLL_SECONDS": "0.1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chat_api", "worker",
        env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            while b"worker.started" not in await process.stdout.readline():
                assert process.returncode is None
        reading = asyncio.create_task(process.stdout.read())  # so that it never waits for us
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    await reading


async def test_killed_it_is_followed_by_another_that_gives_the_job_back_when_told_to_stop(
    jobs: DocumentJobs, agent: HangingAgent, redis_url: str
) -> None:
    """One test, because each process takes seconds to start."""
    await jobs.upload(request_id="trace-1")
    async with worker(jobs, agent, redis_url) as first, worker(jobs, agent, redis_url) as second:
        await agent.until(1)
        (entry,) = await jobs.outbox()
        held_by = str(entry["lease_owner"]).split(":")[1]
        victim, other = (first, second) if held_by == str(first.pid) else (second, first)
        await asyncio.sleep(LEASE_SECONDS + 0.5)
        assert agent.calls == 1, "the lease is kept while its holder lives"
        victim.kill()
        await agent.until(0)
        await agent.until(1)
        (entry,) = await jobs.outbox()
        # One more, unless the machine stands still for so long that the other process loses its own lease.
        attempt = entry["attempt"]
        assert attempt >= 2
        assert str(other.pid) in entry["lease_owner"]

        other.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await other.wait() == 0
    await agent.until(0)
    (entry,) = await jobs.sql("SELECT *, available_at <= now() AS is_due FROM chat.outbox")
    assert (entry["attempt"], entry["lease_owner"], entry["is_due"]) == (attempt, None, True)


async def test_without_redis_it_lives_and_stops_when_told(jobs: DocumentJobs, agent: HangingAgent) -> None:
    await jobs.upload()
    async with worker(jobs, agent, f"redis://127.0.0.1:{free_port()}/0") as process:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 3)
        assert len(await jobs.outbox()) == 1
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0
