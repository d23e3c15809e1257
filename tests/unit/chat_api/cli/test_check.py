"""The smoke test against pairs that are well, ill, or not there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chat_api.cli.check import ServerSentEvent, SmokeTest, server_sent_events
from deploy.local.ports import free_port


def test_events_are_parsed_and_comments_skipped() -> None:
    stream = (
        ': open\n\nid: 1\nevent: message.delta\ndata: {"text":\ndata: "hi"}\n\n: still here\n\ndata: {}\n\nevent: cut'
    )
    assert list(server_sent_events(iter(stream.split("\n")))) == [
        ServerSentEvent("message.delta", {"text": "hi"}),
        ServerSentEvent("message", {}),
    ]


class ScriptedPair(BaseHTTPRequestHandler):
    """Both services at once. `stored` is what it says it kept of the reply; `ending` how the run ends."""

    stored = "Good day."
    ending: tuple[str, dict[str, Any]] = ("run.completed", {})
    deleted = False

    def _answer(self, status: int, body: object = None, content_type: str = "application/json") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        match self.path.removeprefix("/api/v1"):
            case "/auth/register":
                self._answer(201, {"id": "u"})
            case "/auth/token":
                self._answer(200, {"access_token": "t"})
            case "/sessions":
                self._answer(201, {"id": "s"})
            case _:
                events = [
                    ("message.delta", {"message_id": "m", "offset": 0, "text": text}) for text in ("Good ", "day.")
                ]
                parts = [f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in [*events, self.ending]]
                self._answer(200, "".join(parts), "text/event-stream")

    def do_GET(self) -> None:
        if self.path == "/health/ready":
            self._answer(200, {"status": "ok", "dependencies": {"database": {"status": "ok"}}})
        elif self.path.endswith("/messages"):
            self._answer(200, {"items": [{"id": "m", "content": self.stored}]})
        else:
            problem = {"code": "session-not-found", "detail": "There is none."}
            self._answer(404 if self.deleted else 200, problem)

    def do_DELETE(self) -> None:
        type(self).deleted = True
        self._answer(204)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def pair() -> Iterator[tuple[type[ScriptedPair], str]]:
    handler = type("Handler", (ScriptedPair,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield handler, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def run(url: str) -> tuple[bool, list[str]]:
    said: list[str] = []
    return SmokeTest(url, url, say=said.append).run("Hello"), said


def test_a_pair_that_is_well(pair: tuple[type[ScriptedPair], str], capsys: pytest.CaptureFixture[str]) -> None:
    worked, said = run(pair[1])
    assert worked, said
    assert [line.split("  ")[0] for line in said] == ["ok"] * 8
    assert capsys.readouterr().out == "Good day.\n"


def test_a_reply_that_was_stored_differently(pair: tuple[type[ScriptedPair], str]) -> None:
    pair[0].stored = "Good day!"
    worked, said = run(pair[1])
    assert not worked
    assert said[-2] == "FAILED read it back: the stored reply differs from the streamed one"


def test_a_run_that_failed(pair: tuple[type[ScriptedPair], str]) -> None:
    pair[0].ending = ("run.failed", {"run": {"error": {"code": "model-unavailable", "detail": "No model."}}})
    worked, said = run(pair[1])
    assert not worked
    assert said[-2] == (
        "FAILED send and stream the reply: the run ended with run.failed (model-unavailable: No model.)"
    )


def test_a_pair_that_is_not_there() -> None:
    worked, said = run(f"http://127.0.0.1:{free_port()}")
    assert not worked
    assert said[0].startswith("FAILED chat API is ready: ConnectError")
    assert said[1].startswith("       look at GET http://127.0.0.1:")
    assert len(said) == 2
