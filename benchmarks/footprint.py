"""Memory of each process, and how long `colloquy up` takes to be ready.

`python -m benchmarks.footprint`
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, number, print_figures
from benchmarks.load import Load, run_load
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import children, memory_mib
from benchmarks.stack import RAISED_LIMITS, DidNotStart, plain_environment, scratch_folder, stop_on_signals
from deploy.local.credentials import Credentials
from deploy.local.ports import free_port
from shared.security import ServiceName, service_signer

TITLE = "Start-up and memory of what `colloquy up` runs"
COLD_GOAL = Goal(15.0, Better.LOWER)
WARM_GOAL = Goal(5.0, Better.LOWER)
API_GOAL = Goal(160.0, Better.LOWER)
AGENT_GOAL = Goal(400.0, Better.LOWER)

_STOP_SECONDS = 30.0
_PASSWORD = "a password of the benchmark"


@dataclass(frozen=True)
class _Pair:
    """A running pair; `ready_seconds` from the command to the line that says so."""

    pid: int
    ready_seconds: float
    data_dir: Path
    api_port: int
    agent_port: int


def measure(plan: Plan) -> list[Figure]:
    warm: list[float] = []
    with scratch_folder() as folder:
        data_dir = folder / "data"
        with _up(data_dir) as pair:
            cold = pair.ready_seconds
            memory = _memory(pair, plan)
        for _ in range(1 if plan.short else 3):
            with _up(data_dir) as pair:
                warm.append(pair.ready_seconds)
    warm_samples = Samples(warm)
    return [
        Figure("ready, empty data folder", f"{number(cold)} s", judged=cold, judged_as="s", goal=COLD_GOAL),
        Figure(
            "ready, started again", warm_samples.text("s"), judged=warm_samples.median, judged_as="s", goal=WARM_GOAL
        ),
        *memory,
    ]


@contextmanager
def _up(data_dir: Path) -> Iterator[_Pair]:
    api_port, agent_port = free_port(), free_port()
    environment = plain_environment(
        COLLOQUY_DATA_DIR=str(data_dir),
        COLLOQUY_API_PORT=str(api_port),
        COLLOQUY_AGENT_PORT=str(agent_port),
        **RAISED_LIMITS,
    )
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "chat_api", "up"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "is ready after" in line:
                break
        else:
            raise DidNotStart("".join(said))
        yield _Pair(process.pid, time.perf_counter() - started, data_dir, api_port, agent_port)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _memory(pair: _Pair, plan: Plan) -> list[Figure]:
    """Resident memory after each process has done what it does all day."""
    _work(pair, plan)
    figures = []
    known = (("chat API", "chat_api api", API_GOAL), ("agent, embedder loaded", "agent_service", AGENT_GOAL))
    below = children(pair.pid)
    for name, command, goal in (*known, ("worker", "chat_api worker", None), ("Valkey", "valkey-server", None)):
        pid = next(pid for pid, line in below.items() if command in line)
        figures.append(_process_figure(name, pid, goal))
        if command == "agent_service":
            figures += [_process_figure("local chat model", child, None) for child in children(pid)]
    return figures


def _process_figure(name: str, pid: int, goal: Goal | None) -> Figure:
    now, most = memory_mib(pid)
    return Figure(
        name=f"memory: {name}",
        ours=f"{number(now)} MiB resident, {number(most)} at most",
        judged=None if goal is None else now,
        judged_as="MiB",
        goal=goal,
    )


def _work(pair: _Pair, plan: Plan) -> None:
    api = f"http://127.0.0.1:{pair.api_port}/api/v1"
    account = {"email": "rosa@example.org", "username": "rosa", "password": _PASSWORD}
    user = _post(f"{api}/auth/register", account)
    form = f"username=rosa&password={_PASSWORD.replace(' ', '+')}".encode()
    token = _send(f"{api}/auth/token", form, "application/x-www-form-urlencoded")["access_token"]
    person = seeding.Person(user["id"], token)
    sessions = [
        _post(f"{api}/sessions", {"title": "Measured", "reply_policy": "never"}, token)["id"] for _ in range(20)
    ]
    paths = [f"/api/v1/sessions/{session_id}/messages" for session_id in sessions]
    body = orjson.dumps({"content": seeding.CONTENT})
    for requests, status in (
        ([seeding.post_request(path, person, body) for path in paths], 201),
        ([seeding.get_request(f"{path}?limit=50", person) for path in paths], 200),
    ):
        run_load(Load(pair.api_port, 100, requests, status, plan.seconds, plan.warm_up_seconds))
    talk = _post(f"{api}/sessions", {"title": "Talk"}, token)["id"]
    _post(f"{api}/sessions/{talk}/messages", {"content": "Say hello in one short sentence."}, token)
    _embed(pair)


def _embed(pair: _Pair) -> None:
    """Loads the embedder, and has it work on texts as long as it takes them."""
    key = Credentials.load_or_create(pair.data_dir).service_key
    signer = service_signer(key, issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE)
    texts = [(seeding.CONTENT + " ") * count for count in (1, 2, 4, 8) for _ in range(4)]
    answer = _post(
        f"http://127.0.0.1:{pair.agent_port}/v1/embeddings",
        {"model": "local", "input": texts},
        signer.mint(ServiceName.CHAT_API.value),
    )
    assert len(answer["data"]) == len(texts)


def _post(url: str, value: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    return _send(url, orjson.dumps(value), "application/json", token)


def _send(url: str, body: bytes, content_type: str, token: str | None = None) -> dict[str, Any]:
    headers = {"Content-Type": content_type} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310 - our own address
        answer: dict[str, Any] = json.loads(response.read())
        return answer


def main() -> None:
    stop_on_signals()
    print_figures(TITLE, measure(plan_from_arguments(__doc__)))


if __name__ == "__main__":
    main()
