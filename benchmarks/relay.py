"""A model's stream through the chat API and the agent, against talking to the model directly.

`python -m benchmarks.relay`
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, number, print_figures
from benchmarks.load import StreamResult, Streams, percentile, run_streams
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import cpu_seconds
from benchmarks.stack import Server, Stack, stop_on_signals
from chat_api.kit.models import new_id

STREAMS = 32
TOKENS = 200
DELAY_MS = 5
TITLE = f"Relay: {STREAMS} streams of {TOKENS} tokens, {DELAY_MS} ms apart, through chat API, agent and Valkey"
FIRST_TOKEN_GOAL = Goal(20.0, Better.LOWER)
TOTAL_GOAL = Goal(1.05, Better.LOWER)
CPU_GOAL = Goal(150.0, Better.LOWER)

_SCRIPT = f"[[script tokens={TOKENS} delay_ms={DELAY_MS}]]"
_TEXT = "".join(f"word{index} " for index in range(TOKENS))
# Streams begin evenly over the length of one, as they do where people write at any time.
_STAGGER_SECONDS = TOKENS * DELAY_MS / 1000 / STREAMS

Request = Callable[[], bytes]


@dataclass(frozen=True)
class _Round:
    """First tokens and totals in milliseconds, in rising order; processor time in µs per token."""

    first: list[float]
    total: list[float]
    cpu: float = 0.0


def measure(stack: Stack, api: Server, agent: Server, model: Server, plan: Plan) -> list[Figure]:
    """`api` must know `agent`, and `agent` must have `model` as its default."""
    each = 1 if plan.short else 3
    rounds = 1 if plan.short else 3
    # One set for each round, one for the burst, one to warm up.
    requests = iter(asyncio.run(_prepare(stack, STREAMS * (each * rounds + 2))))
    direct_request = _direct_request()
    if not plan.short:
        _run(api, lambda: next(requests), 1, _STAGGER_SECONDS / 4, _ours_text, b"event: message.delta")
    ours: list[_Round] = []
    direct: list[_Round] = []
    for _ in range(rounds):
        cpu = cpu_seconds(api.pid) + cpu_seconds(agent.pid)
        mine = _run(api, lambda: next(requests), each, _STAGGER_SECONDS, _ours_text, b"event: message.delta")
        cpu = cpu_seconds(api.pid) + cpu_seconds(agent.pid) - cpu
        ours.append(_Round(mine.first, mine.total, cpu / (STREAMS * each * TOKENS) * 1e6))
        direct.append(_run(model, lambda: direct_request, each, _STAGGER_SECONDS, _direct_text, b'"content"'))
    burst = _run(api, lambda: next(requests), 1, 0.0, _ours_text, b"event: message.delta")
    direct_burst = _run(model, lambda: direct_request, 1, 0.0, _direct_text, b'"content"')
    return [
        *(_first_token(share, ours, direct) for share in (0.50, 0.95)),
        _total(ours, direct),
        Figure(
            "relay: time of both services",
            Samples([item.cpu for item in ours]).text("µs a token"),
            judged=statistics.median(item.cpu for item in ours),
            judged_as="µs",
            goal=CPU_GOAL,
        ),
        Figure(
            "relay: all 32 at the same moment",
            f"first token {_median_and_p95(burst)}",
            f"direct {_median_and_p95(direct_burst)}",
        ),
    ]


def _median_and_p95(burst: _Round) -> str:
    return f"p50 {number(percentile(burst.first, 0.5))} ms, p95 {number(percentile(burst.first, 0.95))} ms"


def _first_token(share: float, ours: Sequence[_Round], direct: Sequence[_Round]) -> Figure:
    mine = Samples([percentile(item.first, share) for item in ours])
    theirs = Samples([percentile(item.first, share) for item in direct])
    added = [one - other for one, other in zip(mine.values, theirs.values, strict=True)]
    return Figure(
        name=f"relay: first token, p{share * 100:.0f}",
        ours=mine.text("ms"),
        limit=f"direct {theirs.text('ms')}",
        judged=statistics.median(added),
        judged_as="added ms",
        goal=FIRST_TOKEN_GOAL,
    )


def _total(ours: Sequence[_Round], direct: Sequence[_Round]) -> Figure:
    mine = Samples([statistics.median(item.total) for item in ours])
    theirs = Samples([statistics.median(item.total) for item in direct])
    return Figure(
        name="relay: whole stream",
        ours=mine.text("ms"),
        limit=f"direct {theirs.text('ms')}",
        judged=statistics.median(a / b for a, b in zip(mine.values, theirs.values, strict=True)),
        judged_as="ratio",
        goal=TOTAL_GOAL,
    )


async def _prepare(stack: Stack, count: int) -> list[bytes]:
    """A request for each stream, in a session of its own: the history that the model is handed stays the same."""
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        people = await seeding.add_people(connection, stack, STREAMS)
        ids = [new_id() for _ in range(count)]
        await seeding.add_sessions(connection, [person.id for person in people], ids, "always")
    finally:
        await connection.close()
    body = orjson.dumps({"content": _SCRIPT})
    return [
        seeding.post_request(
            f"/api/v1/sessions/{session_id}/messages", people[index % STREAMS], body, "Accept: text/event-stream"
        )
        for index, session_id in enumerate(ids)
    ]


def _direct_request() -> bytes:
    body = orjson.dumps(
        {
            "model": "scripted",
            "messages": [{"role": "user", "content": _SCRIPT}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


def _run(
    server: Server, request: Request, each: int, stagger: float, text_of: Callable[[str], str], mark: bytes
) -> _Round:
    requests = [[request() for _ in range(each)] for _ in range(STREAMS)]
    results: list[StreamResult] = run_streams(Streams(server.port, requests, mark, stagger))
    for result in results:
        text = text_of(result.body)
        assert text == _TEXT, f"a stream said something else: {result.body[-500:]}"
    return _Round(
        sorted(result.first_token_seconds * 1000 for result in results),
        sorted(result.total_seconds * 1000 for result in results),
    )


def _ours_text(body: str) -> str:
    frames = [dict(line.split(": ", 1) for line in frame.split("\n")) for frame in body.split("\n\n") if frame]
    assert frames[-1]["event"] == "run.completed", frames[-1]
    return "".join(json.loads(frame["data"])["text"] for frame in frames if frame["event"] == "message.delta")


def _direct_text(body: str) -> str:
    chunks = [json.loads(line[6:]) for line in body.split("\n\n") if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    with Stack() as stack:
        model = stack.model()
        agent = stack.agent(f"http://127.0.0.1:{model.port}/v1")
        api = stack.api(agent_port=agent.port)
        print_figures(TITLE, measure(stack, api, agent, model, plan))


if __name__ == "__main__":
    main()
