"""What calling tools costs: the time of our own code in each round, and ten tools at once beside one.

`python -m benchmarks.tool_loop`

A model that answers at once calls a tool that does nothing, 1 to 8 times in a row. From the end of one answer of the
model to the beginning of its next, by the model's own clock, is what a round costs: tool and connections included. How
much longer a run takes for its client with each round, less the model's time, is shown beside it. Both are measured
twice: through the chat API, where every step is stored before it is taken, and on the agent alone, which keeps nothing.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, machine, number, print_figures
from benchmarks.load import Streams, percentile, run_streams
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import cpu_seconds
from benchmarks.stack import Server, Stack, stop_on_signals
from chat_api.kit.models import new_id
from shared.security import ServiceName, service_signer

TITLE = "Tool loop: a model that answers at once, a tool that does nothing; one API process, one agent, fsync on"
MOST_ROUNDS = 8
ROUND_GOAL = Goal(10.0, Better.LOWER)
AT_ONCE = 10
SLEEP_SECONDS = 0.5
AT_ONCE_GOAL = Goal(1.1, Better.LOWER)

_ANSWER = "Done."
_MCP_SERVER = Path(__file__).resolve().parents[1] / "tests" / "fakes" / "mcp_server.py"
_SLEEP = "bench__slow"
_SERVERS = {
    "mcpServers": {
        "bench": {"command": sys.executable, "args": ["-P", str(_MCP_SERVER)], "tools": ["slow"], "safe": ["slow"]}
    }
}
_TOOLS = ["calculator", _SLEEP]
_READY_SECONDS = 120.0


@dataclass(frozen=True)
class _Script:
    """What the model does, under a name of its own."""

    key: str
    content: str
    calls: int
    rounds: int

    @classmethod
    def of_rounds(cls, rounds: int) -> _Script:
        return cls._of(f"""call=calculator args='{{"expression": "1+1"}}' rounds={rounds}""", rounds, rounds)

    @classmethod
    def of_sleeps(cls, copies: int) -> _Script:
        return cls._of(f"""call={_SLEEP} args='{{"seconds": {SLEEP_SECONDS}}}' copies={copies}""", copies, 1)

    @classmethod
    def _of(cls, options: str, calls: int, rounds: int) -> _Script:
        key = secrets.token_hex(8)
        return cls(key, f'[[script {options} key={key} text="{_ANSWER}"]]', calls, rounds)


@dataclass(frozen=True)
class _Run:
    """Times in milliseconds: of the whole run as its client saw it, of the model's answers by its own account, between
    those, and of tools.
    """

    script: _Script
    total: float
    answers: Sequence[float]
    between: Sequence[float]
    tools: Sequence[int]


@dataclass(frozen=True)
class _Drive:
    """A way to have a script run. `results` are the tools' times in a body, which must be that of a good run."""

    name: str
    port: int
    pids: Sequence[int]
    request: Callable[[_Script], bytes]
    results: Callable[[str], list[int]]


def measure(stack: Stack, plan: Plan) -> list[Figure]:
    model = stack.model()
    config = stack.folder / "servers_config.json"
    config.write_bytes(orjson.dumps(_SERVERS))
    agent = stack.agent(f"http://127.0.0.1:{model.port}/v1", COLLOQUY_MCP_CONFIG=str(config))
    api = stack.api(agent_port=agent.port)
    _wait_for_tools(stack, agent)
    drives = [_recorded(stack, api, agent), _direct(stack, agent)]
    figures = [figure for drive in drives for figure in _rounds(drive, model, plan)]
    return [*figures, *(_at_once(drive, model, plan) for drive in drives)]


# -- the time of a round --------------------------------------------------------------------------------------


def _rounds(drive: _Drive, model: Server, plan: Plan) -> Iterator[Figure]:
    each, times = (1, 1) if plan.short else (8, plan.rounds)
    _tried(drive, model, [_Script.of_rounds(count) for count in (1, 2, 4)])  # caches, pools, prepared statements
    batches: list[list[_Run]] = []
    cpu = sum(map(cpu_seconds, drive.pids))
    for _ in range(times):
        scripts = [_Script.of_rounds(count) for count in range(1, MOST_ROUNDS + 1) for _ in range(each)]
        random.shuffle(scripts)
        batches.append(_tried(drive, model, scripts))
    cpu = sum(map(cpu_seconds, drive.pids)) - cpu
    runs = [run for batch in batches for run in batch]
    p50, p95 = (Samples([_percentile_between(batch, share) for batch in batches]) for share in (0.50, 0.95))
    yield Figure(
        f"{drive.name}: a round, p50",
        p50.text("ms"),
        f"the model's answer {number(statistics.median(time for run in runs for time in run.answers))} ms",
        judged=p50.median,
        judged_as="ms",
        goal=ROUND_GOAL,
    )
    yield Figure(f"{drive.name}: a round, p95", p95.text("ms"))
    slopes = Samples([_slope(batch) for batch in batches])
    ours_of_one = statistics.median(run.total - sum(run.answers) for run in runs if run.script.rounds == 1)
    yield Figure(
        f"{drive.name}: each round more",
        slopes.text("ms"),
        f"a run of one round {number(ours_of_one)} ms without model",
    )
    per_round = cpu / sum(run.script.rounds for run in runs) * 1000
    yield Figure(f"{drive.name}: processor time", f"{number(per_round)} ms a round, what is before and after included")


def _percentile_between(runs: Sequence[_Run], share: float) -> float:
    return percentile(sorted(time for run in runs for time in run.between), share)


def _slope(runs: Sequence[_Run]) -> float:
    """How much longer a run takes with each round, without the model: a line through the medians."""
    rounds = range(1, MOST_ROUNDS + 1)
    medians = [
        statistics.median(run.total - sum(run.answers) for run in runs if run.script.rounds == count)
        for count in rounds
    ]
    return statistics.linear_regression(list(rounds), medians).slope


# -- ten at once ----------------------------------------------------------------------------------------------


def _at_once(drive: _Drive, model: Server, plan: Plan) -> Figure:
    pairs = [
        _tried(drive, model, [_Script.of_sleeps(AT_ONCE), _Script.of_sleeps(1)])
        for _ in range(1 if plan.short else plan.rounds)
    ]
    ten, one = (Samples([pair[index].total for pair in pairs]) for index in (0, 1))
    return Figure(
        f"{drive.name}: {AT_ONCE} tools of {SLEEP_SECONDS} s at once",
        f"{ten.text('ms')}, the slowest of them {number(statistics.median(max(pair[0].tools) for pair in pairs))} ms",
        f"one alone {one.text('ms')}",
        judged=statistics.median(pair[0].total / pair[1].total for pair in pairs),
        judged_as="ratio",
        goal=AT_ONCE_GOAL,
    )


# -- running scripts ------------------------------------------------------------------------------------------


def _tried(drive: _Drive, model: Server, scripts: Sequence[_Script]) -> list[_Run]:
    """One after another, over one connection."""
    requests = [[drive.request(script) for script in scripts]]
    results = run_streams(Streams(drive.port, requests, b"event:", 0.0))
    spent = _model_times(model)
    runs = []
    for script, result in zip(scripts, results, strict=True):
        tools = drive.results(result.body)
        assert len(tools) == script.calls, f"{len(tools)} of {script.calls} tools ran: {result.body[-1500:]}"
        answers = sorted(spent[script.key])
        assert len(answers) == script.rounds + 1, f"the model was asked {len(answers)} times"
        took = [(ended - started) * 1000 for started, ended in answers]
        between = [(later - earlier) * 1000 for (_, earlier), (later, _) in pairwise(answers)]
        runs.append(_Run(script, result.total_seconds * 1000, took, between, tools))
    return runs


def _model_times(model: Server) -> dict[str, list[tuple[float, float]]]:
    """When each answer began and ended, in seconds since the epoch, by the key of its script; and all is forgotten."""
    address = f"http://127.0.0.1:{model.port}/_stats"
    with urllib.request.urlopen(address) as answer:
        stats = orjson.loads(answer.read())
    urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()
    times: dict[str, list[tuple[float, float]]] = {}
    for asked in stats["requests"]:
        times.setdefault(str(asked["key"]), []).append((asked["started_at"], asked["ended_at"]))
    return times


def _events(body: str) -> list[tuple[str, dict[str, Any]]]:
    frames = [
        dict(line.split(": ", 1) for line in frame.split("\n") if line and not line.startswith(":"))
        for frame in body.split("\n\n")
    ]
    return [(frame["event"], json.loads(frame["data"])) for frame in frames if "event" in frame]


# -- through the chat API -------------------------------------------------------------------------------------


def _recorded(stack: Stack, api: Server, agent: Server) -> _Drive:
    person, sessions = asyncio.run(_sessions(stack))

    def request(script: _Script) -> bytes:
        # A session of its own: the history that the model is handed stays the same.
        path = f"/api/v1/sessions/{next(sessions)}/messages"
        body = orjson.dumps({"content": script.content})
        return seeding.post_request(path, person, body, "Accept: text/event-stream")

    def results(body: str) -> list[int]:
        events = _events(body)
        assert events[-1][0] == "run.completed", body[-1500:]
        [reply] = [data for kind, data in events if kind == "message.updated"]
        assert reply["content"] == _ANSWER, reply
        ended = [data for kind, data in events if kind == "tool.completed"]
        assert {data["status"] for data in ended} == {"succeeded"}, ended
        return [data["duration_ms"] for data in ended]

    return _Drive("recorded", api.port, [api.pid, agent.pid], request, results)


async def _sessions(stack: Stack) -> tuple[seeding.Person, Iterator[UUID]]:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        [person] = await seeding.add_people(connection, stack, 1)
        ids = [new_id() for _ in range(2_000)]
        await seeding.add_sessions(connection, [person.id], ids, "always")
        await connection.execute(
            "UPDATE chat.sessions SET approval_mode = 'never', settings = settings || $1::jsonb",
            json.dumps({"tools": _TOOLS}),
        )
    finally:
        await connection.close()
    return person, iter(ids)


# -- on the agent alone ---------------------------------------------------------------------------------------


def _direct(stack: Stack, agent: Server) -> _Drive:
    caller = seeding.Person(new_id(), _service_token(stack))

    def request(script: _Script) -> bytes:
        body = {
            "run_id": str(new_id()),
            "messages": [{"role": "user", "content": script.content}],
            "tools": _TOOLS,
            "approval_mode": "never",
        }
        return seeding.post_request("/v1/chat", caller, orjson.dumps(body), "Accept: text/event-stream")

    def results(body: str) -> list[int]:
        events = _events(body)
        assert events[-1][0] == "done", body[-1500:]
        assert "".join(data["text"] for kind, data in events if kind == "delta") == _ANSWER, body[-1500:]
        ended = [data for kind, data in events if kind == "tool_result"]
        assert {data["outcome"] for data in ended} == {"succeeded"}, ended
        return [data["duration_ms"] for data in ended]

    return _Drive("agent alone", agent.port, [agent.pid], request, results)


def _service_token(stack: Stack) -> str:
    signer = service_signer(
        stack.credentials.service_key, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE
    )
    return signer.mint(ServiceName.CHAT_API.value)


def _wait_for_tools(stack: Stack, agent: Server) -> None:
    """The agent starts without its MCP servers."""
    headers = {"Authorization": f"Bearer {_service_token(stack)}"}
    request = urllib.request.Request(f"http://127.0.0.1:{agent.port}/v1/tools", headers=headers)
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own address
            listed = orjson.loads(answer.read())
        if {tool["name"] for tool in listed["items"]}.issuperset(_TOOLS):
            return
        assert time.monotonic() < deadline, f"the tools are not there: {listed['sources']}"
        time.sleep(0.1)


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    print(machine(), flush=True)
    with Stack() as stack:
        print_figures(TITLE, measure(stack, plan))


if __name__ == "__main__":
    main()
