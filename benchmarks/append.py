"""Storing a message, against pgbench running the same transaction statement by statement.

`python -m benchmarks.append`
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from uuid import UUID

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, print_figures, ratio_figure
from benchmarks.load import Load, LoadResult, run_load
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import cpu_seconds
from benchmarks.stack import Server, Stack, plain_environment, stop_on_signals
from deploy.local.database import DATABASE

TITLE = "Append a message: 16 clients, 100 sessions, one API process, fsync on"
CLIENTS = 16
SESSIONS = 100
GOAL = Goal(0.30, Better.HIGHER)

_FIRST = 100_000_000_001
_SESSION_PREFIX = "00000000-0000-7000-8000-"
_PERSON = UUID("00000000-0000-7000-8000-000000000001")
_TRANSACTIONS_IN_SHORT = 10
"""Of each client."""
_TPS = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)

# pgbench knows no UUIDs, so the sessions have ids that end in a number.
_TRANSACTION = rf"""
\set n random({_FIRST}, {_FIRST + SESSIONS - 1})
BEGIN;
SELECT role FROM chat.participants WHERE session_id = ('{_SESSION_PREFIX}' || :n)::uuid AND user_id = '{_PERSON}';
UPDATE chat.sessions SET last_seq = last_seq + 1, last_event_seq = last_event_seq + 1,
    message_count = message_count + 1, last_activity_at = now()
    WHERE id = ('{_SESSION_PREFIX}' || :n)::uuid AND status = 'active'
    RETURNING last_seq, last_event_seq, reply_policy \gset
INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content)
    VALUES (('{_SESSION_PREFIX}' || :n)::uuid, :last_seq, uuidv7(), 'user', '{_PERSON}', '{seeding.CONTENT}')
    RETURNING id AS message_id, created_at \gset
INSERT INTO chat.session_events (session_id, event_seq, type, message_id)
    VALUES (('{_SESSION_PREFIX}' || :n)::uuid, :last_event_seq, 'message.created', :message_id);
SELECT username FROM chat.users WHERE id = '{_PERSON}';
COMMIT;
"""


def measure(stack: Stack, api: Server, plan: Plan) -> list[Figure]:
    requests = asyncio.run(_prepare(stack))
    script = stack.folder / "append.sql"
    script.write_text(_TRANSACTION)
    load = Load(
        port=api.port,
        connections=CLIENTS,
        requests=requests,
        expected_status=201,
        seconds=plan.seconds,
        warm_up_seconds=plan.warm_up_seconds,
    )
    ours: list[LoadResult] = []
    limit: list[float] = []
    cpu = cpu_seconds(api.pid)
    for _ in range(plan.rounds):
        ours.append(run_load(load))
        limit.append(_pgbench(stack, plan))
    cpu = cpu_seconds(api.pid) - cpu
    stored = asyncio.run(_check(stack))
    # Warm-ups count here as well, so the whole time of the process is divided by all that it stored.
    latency = [Samples([getattr(item, name) for item in ours]) for name in ("p50_ms", "p95_ms", "p99_ms")]
    return [
        ratio_figure(
            "append", Samples([item.per_second for item in ours]), Samples(limit), "messages/s", "pgbench", GOAL
        ),
        Figure("append: p50, p95, p99", ", ".join(item.text("ms") for item in latency)),
        Figure("append: time of the API process", f"{cpu / stored * 1e6:.0f} µs a message"),
    ]


async def _prepare(stack: Stack) -> list[bytes]:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        await connection.execute(
            "INSERT INTO chat.users (id, email, username, password_hash) VALUES ($1, 'a@example.org', 'rosa', '!')",
            _PERSON,
        )
        ids = [UUID(f"{_SESSION_PREFIX}{number}") for number in range(_FIRST, _FIRST + SESSIONS)]
        await seeding.add_sessions(connection, [_PERSON], ids, "never")
    finally:
        await connection.close()
    person = seeding.Person(_PERSON, seeding.issue_token(stack, _PERSON))
    body = orjson.dumps({"content": seeding.CONTENT})
    return [seeding.post_request(f"/api/v1/sessions/{session_id}/messages", person, body) for session_id in ids]


async def _check(stack: Stack) -> int:
    """Every number was given once, whoever gave it; returns how many messages the API stored."""
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        gaps = await connection.fetchval(
            "SELECT count(*) FROM chat.sessions s WHERE s.owner_id = $1 AND NOT s.last_seq ="
            " ALL (SELECT unnest(ARRAY[count(*), max(seq)]) FROM chat.messages m WHERE m.session_id = s.id)",
            _PERSON,
        )
        assert gaps == 0, f"{gaps} sessions do not have the messages that they counted"
        # pgbench's rows have no fingerprint of a request.
        stored: int = await connection.fetchval(
            "SELECT count(*) FROM chat.messages WHERE sender_id = $1 AND request_hash IS NOT NULL", _PERSON
        )
        return stored
    finally:
        await connection.close()


def _pgbench(stack: Stack, plan: Plan) -> float:
    """Transactions per second."""
    # Counted in a short run: a busy machine may not end one of them within a second, the shortest time there is.
    amount = f"--transactions={_TRANSACTIONS_IN_SHORT}" if plan.short else f"--time={round(plan.seconds)}"
    command = [
        str(stack.postgres.bin / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", "--jobs=2",
        amount, f"--file={stack.folder / 'append.sql'}",
        "-h", "127.0.0.1", "-p", str(stack.postgres.port), "-U", "colloquy_api", DATABASE,
    ]  # fmt: skip
    environment = plain_environment(PGPASSWORD=stack.credentials.api)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = _TPS.search(done.stdout)
    if done.returncode != 0 or found is None or "number of failed transactions: 0 " not in done.stdout:
        raise RuntimeError(f"pgbench failed: {done.stdout[-500:]} {done.stderr[-1000:]}")
    return float(found[1])


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    with Stack() as stack:
        print_figures(TITLE, measure(stack, stack.api(), plan))


if __name__ == "__main__":
    main()
