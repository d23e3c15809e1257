"""Messages whose runs call a tool that counts: how they are sent, decided on and followed, and how they must end."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from shared.contracts.tools import ToolSourceState
from shared.security import ServiceName, service_signer
from tests.faults.accounts import Member
from tests.faults.cluster import Cluster
from tests.faults.ledger import FINAL, Ledger
from tests.faults.person import Person, Refused
from tests.faults.room_client import RoomClient
from tests.faults.streams import Reader

ASKS = "May I?"
ANSWERS = "So much for that."
WHOLE_REPLY = f"{ASKS}\n\n{ANSWERS}"
WAITS = "awaiting_approval"
UNKNOWN = "tool-outcome-unknown"
_BROKEN_OFF = frozenset({"run-interrupted", "agent-broke-off", "agent-restarting"})
_RETRY_SECONDS = 0.1
_DECISION = {"approve": "approved", "reject": "rejected"}
_LIVE = frozenset({"message.delta", "message.citations"})


@dataclass(frozen=True)
class CountingTool:
    """A risky tool of one of the cluster's MCP servers. Each of its executions is a line in a file."""

    server: str
    repeatable: bool

    @property
    def name(self) -> str:
        return f"{self.server}__record_again" if self.repeatable else f"{self.server}__record"


TOOLS = tuple(CountingTool(server, repeatable) for server in ("desk", "mail") for repeatable in (False, True))


@dataclass
class Errand:
    """One message, and the call that the model makes of it. `decision` is what its sender said about the call."""

    tool: CountingTool
    session: str
    run_id: str
    key: str
    execution_id: str = ""
    decision: str | None = None
    readers: list[PausingReader] = field(default_factory=list)


class PausingReader(Reader):
    """Reads a run to its end, over the times that it waits for people."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def ended(self) -> bool:
        return any(event.type.removeprefix("run.") in FINAL for event in self.events)

    def assert_whole(self, *, may_jump: bool) -> None:
        """No event is missing or doubled, the last is the end, and the pieces are the reply.

        A process that was killed between what it stored and what it told leaves a gap in the numbers: `may_jump` says
        whether there may be one. Readers are told the reply as it is stored then, and how the run stands.
        """
        text, told = "", 0
        for event in self.events:
            jumps, told = event.id != told + 1, event.id
            assert not jumps or (may_jump and event.type == "message.updated"), (event.id, event.type)
            match event.type:
                case "message.delta":
                    assert event.data["offset"] == len(text), "a piece is missing, doubled or of another reply"
                    text += event.data["text"]
                case "message.updated":
                    assert event.data["content"] == text or jumps
                    text = event.data["content"]
                case _:
                    pass
        ids = [event.id for event in self.events]
        assert ids == sorted(set(ids)), "an event came twice"
        finals = [event.type for event in self.events if event.type.removeprefix("run.") in FINAL]
        assert finals == [self.events[-1].type]
        assert text == self.final_text


class SessionClient(RoomClient):
    """A socket in a session in which the assistant answers once."""

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].type.removeprefix("run.") in FINAL

    def _told(self, frame: dict[str, Any]) -> None:
        if frame["type"] not in _LIVE:
            super()._told(frame)


class Clerk:
    """Somebody who sends errands and decides on them, whatever breaks meanwhile."""

    def __init__(self, person: Person, ledger: Ledger, cluster: Cluster) -> None:
        self._person = person
        self._ledger = ledger
        self._agents_tools = f"{cluster.url('agent')}/v1/tools"
        signer = service_signer(cluster.service_key, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
        self._agents_headers = {"Authorization": f"Bearer {signer.mint(ServiceName.CHAT_API.value)}"}

    async def send(self, tool: CountingTool, *, before: float = 0, after: float = 0, url: str | None = None) -> Errand:
        """Have the model call the tool, which waits that many seconds before and after it does its work."""
        new = {"title": "faults", "settings": {"tools": [tool.name]}}
        session = str((await self._person.persist("POST", "/sessions", json=new)).json()["id"])
        key = secrets.token_hex(8)
        arguments = json.dumps({"text": key, "before": before, "after": after})
        content = f"""[[script call={tool.name} args='{arguments}' say="{ASKS}" text="{ANSWERS}"]]"""
        sent = await self._person.send(session, content, first_url=url)
        return Errand(tool, session, str(sent["run"]["id"]), key)

    async def send_all(self, *, before: float = 0, after: float = 0, url: str | None = None) -> list[Errand]:
        """One errand for each of `TOOLS`, in their order."""
        return await asyncio.gather(*(self.send(tool, before=before, after=after, url=url) for tool in TOOLS))

    async def waiting(self, errands: Sequence[Errand], within: float = 40) -> None:
        """Return when all of them wait for a decision."""
        by_session = {errand.session: errand for errand in errands}
        for row in await self._calls_when(errands, {"pending_approval"}, within):
            by_session[str(row["session_id"])].execution_id = str(row["id"])
        give_up_at = time.monotonic() + within
        while {run["status"] for run in await self._ledger.runs(list(by_session))} != {WAITS}:
            assert time.monotonic() < give_up_at, "a run does not wait"
            await asyncio.sleep(0.02)

    async def begun(self, errands: Sequence[Errand], within: float = 30) -> None:
        """Return when it is stored of all of them that they are being run, or, on a slow machine, that they were."""
        await self._calls_when(errands, {"running", "succeeded"}, within)

    async def decide(self, errand: Errand, verdict: str, *, url: str | None = None) -> None:
        """Until it is acknowledged. That it was decided before means, after a try that broke, that this one did it."""
        errand.decision = verdict
        try:
            await self._person.persist(
                "POST", f"/tool-executions/{errand.execution_id}/{verdict}", json={}, first_url=url
            )
        except Refused as refusal:
            if "already-decided" not in str(refusal):
                raise
            (row,) = await self._ledger.rows(
                "SELECT decided_by FROM chat.tool_executions WHERE id = $1", UUID(errand.execution_id)
            )
            assert str(row["decided_by"]) == self._person.id, "a refused decision that nobody made"

    async def decides_in_vain(self, errand: Errand) -> None:
        """What was decided once, or is over, cannot be approved again."""
        with pytest.raises(Refused, match="already-decided"):
            await self._person.persist("POST", f"/tool-executions/{errand.execution_id}/approve", json={})

    async def follow(self, errand: Errand) -> None:
        """Read its events to the end of the run, over any replica, however often the connection breaks."""
        reader = PausingReader(errand.run_id)
        errand.readers.append(reader)
        while not reader.ended:
            try:
                async with self._person.streaming(reader, errand.session, "", "") as answer:
                    if answer.status_code == 200:
                        async for chunk in answer.aiter_raw():
                            reader.feed(chunk)
                        continue
                    # 204: all is told of a run that waits.
                    assert answer.status_code in (204, 429) or answer.status_code >= 500, await answer.aread()
            except httpx.TransportError:
                pass
            await asyncio.sleep(_RETRY_SECONDS)

    def socket(self, errand: Errand) -> SessionClient:
        token = self._person.headers["Authorization"].removeprefix("Bearer ")
        return SessionClient(Member(self._person.id, token), errand.session, *self._person.urls)

    async def tools_are_there(self, within: float = 60) -> None:
        """Wait until the agent offers all of `TOOLS`, and has their servers. It starts without them."""
        new = {"settings": {"tools": [tool.name for tool in TOOLS]}}
        session = (await self._person.persist("POST", "/sessions", json=new)).json()["id"]
        give_up_at = time.monotonic() + within
        while missing := (await self._person.persist("GET", f"/sessions/{session}/tools")).json()["unknown"]:
            assert time.monotonic() < give_up_at, f"after {within} s there is still no {missing}"
            await asyncio.sleep(0.1)
        # The tools of a server that died stay on offer while it starts again, and a call waits some seconds only.
        while away := await self._servers_away():
            assert time.monotonic() < give_up_at, f"after {within} s there is still no {away}"
            await asyncio.sleep(0.1)

    async def _servers_away(self) -> list[str]:
        answer = await self._person.http.get(self._agents_tools, headers=self._agents_headers)
        answer.raise_for_status()
        return [source["name"] for source in answer.json()["sources"] if source["state"] != ToolSourceState.READY]

    async def _calls_when(
        self, errands: Sequence[Errand], statuses: set[str], within: float
    ) -> Sequence[asyncpg.Record]:
        sessions = [UUID(errand.session) for errand in errands]
        give_up_at = time.monotonic() + within
        while True:
            rows = await self._ledger.rows(
                "SELECT session_id, id, status FROM chat.tool_executions WHERE session_id = ANY($1)", sessions
            )
            if len(rows) == len(errands) and {row["status"] for row in rows} <= statuses:
                return rows
            assert time.monotonic() < give_up_at, f"not all are {statuses}: {rows}"
            await asyncio.sleep(0.02)


class Executions:
    """How often the tools did their work, by their own account."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def counted(self) -> Counter[str]:
        if not self._path.exists():
            return Counter()
        return Counter(json.loads(line)["text"] for line in self._path.read_text().splitlines())


@dataclass
class Outcomes:
    """What became of errands, for a line of a report."""

    counts: Counter[str] = field(default_factory=Counter)

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def __str__(self) -> str:
        return ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))


async def assert_ended_well(
    ledger: Ledger,
    executions: Executions,
    errands: Sequence[Errand],
    *,
    agent_was_late: bool = False,
    api_was_killed: bool = False,
) -> Outcomes:
    """Whatever was killed: nothing ran unasked or once too often, and what happened is on record without a gap.

    A run may fail where the agent was away for longer than runs wait.
    """
    done = executions.counted()
    outcomes = Outcomes()
    for errand in errands:
        (call,) = await ledger.rows(
            "SELECT *, error ->> 'code' AS code FROM chat.tool_executions WHERE session_id = $1", UUID(errand.session)
        )
        (run,) = await ledger.runs([errand.session])
        _assert_counted(errand, call, done[errand.key], agent_was_late=agent_was_late)
        _assert_run(errand, run, _BROKEN_OFF | {"agent-unavailable"} if agent_was_late else _BROKEN_OFF)
        await _assert_events(ledger, errand, run, call)
        for reader in errand.readers:
            if run["status"] in FINAL:
                reader.assert_whole(may_jump=api_was_killed)
                assert reader.final_text == run["reply"]
        outcomes.count(call["code"] or call["status"])
    return outcomes


def _assert_counted(errand: Errand, call: asyncpg.Record, times: int, *, agent_was_late: bool) -> None:
    case = f"{errand.tool.name}: {call['status']} {call['code']} after {call['attempts']} attempts, done {times} times"
    if errand.decision != "approve":
        assert times == 0, f"done without approval: {case}"
        assert call["status"] == ("pending_approval" if errand.decision is None else "rejected"), case
        return
    assert call["decided_by"] is not None
    assert times <= call["attempts"], case
    if not errand.tool.repeatable:
        assert times <= 1, f"done twice: {case}"
    match call["status"]:
        case "succeeded":
            assert times >= 1, case
            assert call["result"] == f"recorded {errand.key}"
        case "failed" if call["code"] == UNKNOWN:
            # Of one that may be repeated it is said only when all attempts were lost, or there was nobody to try again.
            assert not errand.tool.repeatable or call["attempts"] == 3 or agent_was_late, case
        case "failed":
            # It says of itself that nothing was done; at least not by its last attempt.
            assert call["code"] == "tool-failed", case
            assert times == 0 or errand.tool.repeatable, case
        case _:
            raise AssertionError(case)


def _assert_run(errand: Errand, run: asyncpg.Record, broken_off: frozenset[str]) -> None:
    assert run["lease_owner"] is None
    if errand.decision is None:
        assert (run["status"], run["reply"], run["pending_calls"]) == (WAITS, ASKS, 1)
    elif run["status"] == "completed":
        assert run["reply"] == WHOLE_REPLY
    else:
        # It broke when there were words out that came after the call.
        assert run["status"] == "failed"
        assert run["error_code"] in broken_off, run
        assert WHOLE_REPLY.startswith(run["reply"])


async def _assert_events(ledger: Ledger, errand: Errand, run: asyncpg.Record, call: asyncpg.Record) -> None:
    key = UUID(errand.session)
    (last,) = await ledger.rows("SELECT last_event_seq FROM chat.sessions WHERE id = $1", key)
    events = await ledger.rows("SELECT * FROM chat.session_events WHERE session_id = $1 ORDER BY event_seq", key)
    assert [event["event_seq"] for event in events] == list(range(1, last["last_event_seq"] + 1))
    of_call = [event["type"].removeprefix("tool.") for event in events if event["tool_execution_id"] == call["id"]]
    told = ["requested", "approval_required"]
    if errand.decision is not None:
        told.append(_DECISION[errand.decision])
    starts = of_call.count("started")
    told += ["started"] * starts
    if call["status"] in ("succeeded", "failed"):
        told.append("completed" if call["status"] == "succeeded" else "failed")
    assert of_call == told
    assert events[-1]["type"] == f"run.{run['status']}"
    assert [event["type"] for event in events].count("run.completed") == (run["status"] == "completed")
