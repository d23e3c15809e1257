"""`colloquy check`: one conversation with a running pair of services, as a client would hold it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
import httpx

_STEP_SECONDS = 10.0
_REPLY_SECONDS = 180.0
_TERMINAL = frozenset({"run.completed", "run.failed", "run.cancelled", "run.awaiting_approval"})


class StepFailed(Exception):
    """What was seen instead of what should have been."""


@dataclass(frozen=True)
class ServerSentEvent:
    type: str
    data: dict[str, Any]


def server_sent_events(lines: Iterator[str]) -> Iterator[ServerSentEvent]:
    """Parse the lines of an event stream whose data is JSON. Comments are skipped."""
    kind = "message"
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield ServerSentEvent(kind, json.loads("\n".join(data)))
            kind, data = "message", []
        elif line.startswith("event:"):
            kind = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))


class SmokeTest:
    """Steps in order; the first that fails ends it, with what to look at."""

    def __init__(self, api_url: str, agent_url: str, *, say: Callable[[str], None] = click.echo) -> None:
        self._api_url = api_url
        self._agent_url = agent_url
        self._say = say
        # No proxy from the environment: the pair is near.
        self._http = httpx.Client(timeout=_STEP_SECONDS, trust_env=False)
        self._person = f"check-{secrets.token_hex(6)}"
        self._password = secrets.token_urlsafe(24)
        self._session_id = ""
        self._reply = ""
        self._reply_id = ""

    def run(self, content: str) -> bool:
        """Returns whether all of it worked."""
        steps: list[tuple[str, Callable[[], str], str]] = [
            ("chat API is ready", self._api_ready, f"GET {self._api_url}/health/ready and the log of the API"),
            ("agent is ready", self._agent_ready, f"GET {self._agent_url}/health/ready and the log of the agent"),
            ("register", self._register, "the log of the API; are the migrations up to date?"),
            ("log in", self._log_in, "the log of the API; COLLOQUY_SECRET_KEY"),
            ("open a session", self._open_session, "the log of the API"),
            (
                "send and stream the reply",
                lambda: self._send(content),
                "the logs of the API and the agent; the model's key",
            ),
            ("read it back", self._read_back, "the log of the API: what was streamed is not what was stored"),
            ("delete the session", self._delete, "the log of the API"),
        ]
        with self._http:
            return all(self._step(name, work, look_at) for name, work, look_at in steps)

    def _step(self, name: str, work: Callable[[], str], look_at: str) -> bool:
        started = time.perf_counter()
        try:
            remark = work()
        except (StepFailed, httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError) as error:
            reason = str(error) if isinstance(error, StepFailed) else f"{type(error).__name__} {error}".strip()
            self._say(f"FAILED {name}: {reason}")
            self._say(f"       look at {look_at}")
            return False
        milliseconds = (time.perf_counter() - started) * 1000
        self._say(f"ok     {name:<28}{milliseconds:8.0f} ms  {remark}".rstrip())
        return True

    # -- steps --------------------------------------------------------------------------------------------

    def _api_ready(self) -> str:
        return self._health(self._api_url)

    def _agent_ready(self) -> str:
        return self._health(self._agent_url)

    def _health(self, url: str) -> str:
        body = self._expect(200, self._http.get(f"{url}/health/ready"))
        return ", ".join(f"{name} {part['status']}" for name, part in body.get("dependencies", {}).items())

    def _register(self) -> str:
        account = {"email": f"{self._person}@example.com", "username": self._person, "password": self._password}
        self._expect(201, self._http.post(f"{self._api_url}/api/v1/auth/register", json=account))
        return self._person

    def _log_in(self) -> str:
        form = {"username": self._person, "password": self._password}
        tokens = self._expect(200, self._http.post(f"{self._api_url}/api/v1/auth/token", data=form))
        self._http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        return ""

    def _open_session(self) -> str:
        answer = self._http.post(f"{self._api_url}/api/v1/sessions", json={"title": "colloquy check"})
        self._session_id = str(self._expect(201, answer)["id"])
        return self._session_id

    def _send(self, content: str) -> str:
        started = time.perf_counter()
        first_text: float | None = None
        pieces: list[str] = []
        outcome = ""
        message = {"content": content, "client_id": secrets.token_hex(16)}
        with self._http.stream(
            "POST",
            f"{self._api_url}/api/v1/sessions/{self._session_id}/messages",
            json=message,
            headers={"Accept": "text/event-stream"},
            timeout=httpx.Timeout(_STEP_SECONDS, read=_REPLY_SECONDS),
        ) as answer:
            if answer.status_code != 200:
                answer.read()
                self._expect(200, answer)
            for event in server_sent_events(answer.iter_lines()):
                if event.type == "message.delta":
                    first_text = first_text or time.perf_counter()
                    pieces.append(str(event.data["text"]))
                    self._reply_id = str(event.data["message_id"])
                    click.echo(event.data["text"], nl=False)
                elif event.type in _TERMINAL:
                    outcome = event.type
                    problem = _problem_of(event.data)
        if pieces:
            click.echo()
        self._reply = "".join(pieces)
        if outcome != "run.completed":
            raise StepFailed(f"the run ended with {outcome or 'no event at all'}{problem if outcome else ''}")
        if first_text is None:
            raise StepFailed("the run completed without a word")
        return f"first text after {(first_text - started) * 1000:.0f} ms, {len(self._reply)} characters"

    def _read_back(self) -> str:
        answer = self._http.get(f"{self._api_url}/api/v1/sessions/{self._session_id}/messages")
        stored = {item["id"]: item["content"] for item in self._expect(200, answer)["items"]}
        if self._reply_id not in stored:
            raise StepFailed("the reply is not in the session's messages")
        if stored[self._reply_id].encode() != self._reply.encode():
            raise StepFailed("the stored reply differs from the streamed one")
        return "the same bytes"

    def _delete(self) -> str:
        self._expect(204, self._http.delete(f"{self._api_url}/api/v1/sessions/{self._session_id}"))
        self._expect(404, self._http.get(f"{self._api_url}/api/v1/sessions/{self._session_id}"))
        return ""

    @staticmethod
    def _expect(status: int, answer: httpx.Response) -> dict[str, Any]:
        try:
            body = answer.json() if answer.content else {}
        except ValueError:
            body = {}
        if not isinstance(body, dict):
            body = {}
        if answer.status_code != status:
            said = f" {body.get('code', '')}: {body.get('detail', '')}".rstrip(": ") if body else ""
            raise StepFailed(f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}{said}")
        return body


def _problem_of(data: dict[str, Any]) -> str:
    """What a terminal event says went wrong, whichever of its parts says it."""
    run = data.get("run", data)
    problem = run.get("error") if isinstance(run, dict) else None
    return f" ({problem.get('code')}: {problem.get('detail')})" if isinstance(problem, dict) else ""
