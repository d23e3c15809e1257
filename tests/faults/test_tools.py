"""Tools that wait for people, while processes are killed: none runs unasked, none twice that must not."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.faults.cluster import Cluster, Part
from tests.faults.conftest import Measured
from tests.faults.ledger import Ledger
from tests.faults.person import Person
from tests.faults.promises import promised
from tests.faults.rooms import following
from tests.faults.tools import TOOLS, Clerk, CountingTool, Errand, Executions, assert_ended_well

pytestmark = pytest.mark.faults

PROMISED_SECONDS = promised(15.0)
WAITED_FOR_SECONDS = 5.0
"""Runs wait so long for an agent that is away; on a machine that is busy with other things it may take longer to start.
"""
# A tool is killed before or after its work, as it happens.
_WORK = (0.3, 0.4)
_NO_TIME = (0.0, 0.0)
_SHORT_SECONDS = 1.2
_MOST_AFTER_APPROVAL_SECONDS = 0.05
_RESTARTED_EVERY = 3
DESK = CountingTool("desk", repeatable=False)

Kill = Callable[[Cluster], float]


@pytest.fixture(scope="module", autouse=True)
def _tools(whole_cluster: Cluster) -> Iterator[None]:
    with whole_cluster.mcp_servers():
        yield


@pytest.fixture
async def clerk(somebody: Person, ledger: Ledger, cluster: Cluster) -> Clerk:
    clerk = Clerk(somebody, ledger, cluster)
    await clerk.tools_are_there()
    return clerk


@pytest.fixture
def executions(cluster: Cluster) -> Executions:
    return Executions(cluster.executions_path)


def _kill_both(cluster: Cluster) -> float:
    cluster.api_a.kill()
    return cluster.api_b.kill()


VICTIMS: dict[str, Kill] = {
    "a chat API": lambda cluster: cluster.api_b.kill(),
    "both chat APIs": _kill_both,
    "the agent": lambda cluster: cluster.agent.kill(),
    "an MCP server over stdio": lambda cluster: cluster.kill_desk(),
    "an MCP server over HTTP": lambda cluster: cluster.mail.kill(),
}


@pytest.mark.parametrize("victim", list(VICTIMS))
async def test_a_kill_runs_nothing_twice_and_nothing_unasked(
    victim: str,
    cluster: Cluster,
    clerk: Clerk,
    ledger: Ledger,
    executions: Executions,
    rounds: int,
    measured: Measured,
) -> None:
    """One kill finds tools that run, calls that wait, and some that were approved within the last 50 ms."""
    doomed = cluster.urls[1]
    seed = secrets.randbits(32)
    for number in range(rounds):
        dice = random.Random(seed + number)
        running, approved, asked = [
            await clerk.send_all(before=before, after=after, url=doomed)
            for before, after in (_WORK, _NO_TIME, _NO_TIME)
        ]
        await clerk.waiting([*running, *approved, *asked])
        async with _told(clerk, [*running, *approved, *asked[:3]]):
            await asyncio.gather(*(clerk.decide(errand, "approve", url=doomed) for errand in running))
            await clerk.begun(running)
            await asyncio.sleep(dice.uniform(0, sum(_WORK)))
            approvals = [asyncio.create_task(clerk.decide(errand, "approve", url=doomed)) for errand in approved]
            await approvals[dice.randrange(len(approvals))]
            await asyncio.sleep(dice.uniform(0, _MOST_AFTER_APPROVAL_SECONDS))
            agents_pid, mails_pid = cluster.agent.pid, cluster.mail.pid
            killed_at = VICTIMS[victim](cluster)
            await asyncio.gather(*approvals)
            agent_was_late = False
            if victim == "the agent":
                await asyncio.to_thread(cluster.agent.wait_until_back, agents_pid)
                agent_was_late = time.time() - killed_at > WAITED_FOR_SECONDS
            elif victim == "an MCP server over HTTP":
                await asyncio.to_thread(cluster.mail.wait_until_back, mails_pid)

            runs = await ledger.all_ended([errand.session for errand in (*running, *approved)], PROMISED_SECONDS)
            last = max(run["finished_at"].timestamp() for run in runs) - killed_at
            await clerk.tools_are_there()
            for errand, verdict in zip(asked[:3], ("approve", "reject", "approve"), strict=True):
                await clerk.decide(errand, verdict)
            await ledger.all_ended([errand.session for errand in asked[:3]], PROMISED_SECONDS)
        for errand in (*running, *asked[:3]):
            await clerk.decides_in_vain(errand)
        errands = [*running, *approved, *asked]
        outcomes = await assert_ended_well(
            ledger, executions, errands, agent_was_late=agent_was_late, api_was_killed="chat API" in victim
        )
        # Nothing was killed after these were approved.
        done = executions.counted()
        assert [done[errand.key] for errand in asked] == [1, 0, 1, 0], f"seed {seed + number}"
        measured(f"kill -9 of {victim}: last run ended {max(0.0, last):.1f} s after it; {outcomes}")
        assert last < PROMISED_SECONDS, f"seed {seed + number}"
        if number % _RESTARTED_EVERY == _RESTARTED_EVERY - 1:
            # A server that dies again and again is waited for longer and longer; to a new agent it is a new one.
            await _restarted(cluster.agent, signal.SIGTERM)


@pytest.mark.parametrize("victim", ["api_b", "agent"])
async def test_sigterm_while_tools_run(
    victim: str, cluster: Cluster, clerk: Clerk, ledger: Ledger, executions: Executions, rounds: int, measured: Measured
) -> None:
    part: Part = getattr(cluster, victim)
    for _ in range(rounds):
        short = await clerk.send_all(after=_SHORT_SECONDS, url=cluster.urls[1])
        long = [await clerk.send(tool, before=20, url=cluster.urls[1]) for tool in TOOLS if not tool.repeatable]
        await clerk.waiting([*short, *long])
        async with _told(clerk, [*short, *long]):
            # All at once: what ends soon must not have ended before the signal.
            approvals = (clerk.decide(errand, "approve", url=cluster.urls[1]) for errand in (*short, *long))
            await asyncio.gather(*approvals)
            await clerk.begun([*short, *long])
            asked_at = time.time()
            await _restarted(part, signal.SIGTERM)
            agent_was_late = part is cluster.agent and time.time() - asked_at > WAITED_FOR_SECONDS
            await ledger.all_ended([errand.session for errand in (*short, *long)], PROMISED_SECONDS)
            seconds = time.time() - asked_at
        outcomes = await assert_ended_well(ledger, executions, [*short, *long], agent_was_late=agent_was_late)
        measured(f"SIGTERM of {victim} with tools: all over after {seconds:.1f} s; {outcomes}")
        if victim == "api_b":
            # What ends soon is waited for.
            done = executions.counted()
            assert [done[errand.key] for errand in short] == [1] * len(short)
        await clerk.tools_are_there()


async def test_decisions_need_no_valkey(cluster: Cluster, clerk: Clerk, ledger: Ledger, executions: Executions) -> None:
    before = await clerk.send_all()
    await clerk.waiting(before)
    pid = cluster.valkey.pid
    with cluster.valkey.away():
        during = await clerk.send_all()
        await clerk.waiting(during)
        errands = [*before, *during]
        await asyncio.gather(*(clerk.decide(errand, "approve") for errand in errands))
        await ledger.all_ended([errand.session for errand in errands], PROMISED_SECONDS)
    await asyncio.to_thread(cluster.valkey.wait_until_back, pid)
    outcomes = await assert_ended_well(ledger, executions, errands)
    assert outcomes.counts == {"succeeded": len(errands)}


@asynccontextmanager
async def _told(clerk: Clerk, errands: Sequence[Errand]) -> AsyncIterator[None]:
    """Event streams and sockets hear of everything, over whatever breaks, to the end of each run."""
    sockets = [clerk.socket(errand) for errand in errands]
    streams = [asyncio.create_task(clerk.follow(errand)) for errand in errands]
    try:
        async with following(sockets):
            yield
            async with asyncio.timeout(PROMISED_SECONDS):
                await asyncio.gather(*streams)
                while not all(socket.ended for socket in sockets):
                    await asyncio.sleep(0.02)
    finally:
        for stream in streams:
            stream.cancel()


async def _restarted(part: Part, number: signal.Signals) -> None:
    pid = part.pid
    part.send(number)
    end = await asyncio.to_thread(part.wait_for_exit, pid, PROMISED_SECONDS)
    assert end.code == 0
    await asyncio.to_thread(part.wait_until_back, pid)
