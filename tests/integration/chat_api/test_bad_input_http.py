"""What only a real HTTP server meets: lengths that lie, bodies without an end, methods and paths that do not exist."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from chat_api.config import ApiSettings
from chat_api.main import create_app
from shared.settings import Environment
from tests.factories.operations import operations_of
from tests.factories.served import served
from tests.fakes.agent import ScriptedAgent
from tests.stores import Database

API = "/api/v1"
REGISTER = f"{API}/auth/register"
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "openapi" / "chat_api.json"
"""The committed document, which a test holds to the served one: to make that takes longer than all tests here."""
OLD_ID = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"
BODY = json.dumps({"email": "not-an-address", "username": "ann", "password": "long enough"}).encode()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The body, which has to be a problem document about this very answer."""
        assert self.headers["content-type"] == "application/problem+json", self
        document: dict[str, Any] = json.loads(self.body)
        assert {"type", "title", "status", "detail", "code", "request_id"} <= set(document), self
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        return document

    @property
    def openai_error(self) -> dict[str, Any]:
        """The error in the body, which has to be in OpenAI's shape."""
        assert self.headers["content-type"] == "application/json", self
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, self
        return error


class Wire:
    """One connection, spoken to in bytes."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._socket.settimeout(30)
        self._reader = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # refused before the end: the answer is what counts
            self._socket.sendall(data)

    def ask(self, head: str, body: bytes = b"") -> Answer:
        """Send a request line with its headers, and read the answer."""
        lines = head.split("\n")
        if not any(line.lower().startswith("host:") for line in lines):
            lines.append("Host: colloquy.test")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return self.read(has_body=not head.startswith("HEAD "))

    def read(self, *, has_body: bool = True) -> Answer:
        status_line = self._reader.readline()
        assert status_line.startswith(b"HTTP/1.1 "), status_line
        headers = {}
        while (line := self._reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", 0)) if has_body else 0
        body = self._reader.read(length) if "transfer-encoding" not in headers else b""
        return Answer(int(status_line.split()[1]), headers, body)

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    @property
    def is_closed(self) -> bool:
        return self._reader.read(1) == b""

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


@pytest.fixture(scope="module")
def address(new_database: Callable[..., Database]) -> Iterator[str]:
    database = new_database()
    loaded = ApiSettings(environment=Environment.TEST, database_url=SecretStr(database.api_url), redis_url=None)
    with served(create_app(loaded, agent_transport=ScriptedAgent())) as address:
        yield address


@pytest.fixture
def wire(address: str) -> Iterator[Wire]:
    with contextlib.closing(Wire(address)) as wire:
        yield wire


@pytest.fixture(autouse=True)
def the_server_is_well_afterwards(address: str) -> Iterator[None]:
    with capture_logs() as logs:
        yield
    with contextlib.closing(Wire(address)) as wire:
        assert wire.ask("GET /health/db HTTP/1.1").status == 200
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []


def post(extra: str = "", path: str = REGISTER) -> str:
    return f"POST {path} HTTP/1.1\nContent-Type: application/json" + (f"\n{extra}" if extra else "")


def test_a_body_that_is_announced_too_large_is_not_read(wire: Wire) -> None:
    answer = wire.ask(post("Content-Length: 99999999999"))

    assert answer.status == 413
    assert answer.problem["code"] == "payload-too-large"


def test_a_body_without_a_length_is_stopped_at_the_limit(wire: Wire) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = wire.ask(post("Transfer-Encoding: chunked"), chunk * 16 + b"0\r\n\r\n")

    assert answer.status == 413
    assert answer.problem["code"] == "payload-too-large"


def test_a_body_in_pieces_is_read_as_one(wire: Wire) -> None:
    pieces = b"".join(b"%x\r\n%b\r\n" % (1, BODY[at : at + 1]) for at in range(len(BODY))) + b"0\r\n\r\n"

    assert wire.ask(post("Transfer-Encoding: chunked"), pieces).problem["code"] == "validation-failed"


def test_a_body_that_ends_early_harms_nobody(wire: Wire) -> None:
    wire.send(f"POST {REGISTER} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode() + b'{"email":')
    wire.half_close()

    assert wire.is_closed


def test_a_body_longer_than_its_length_is_cut_there(wire: Wire) -> None:
    # The rest is no request, so the server gives up the connection, and may do so before it answers the first.
    assert wire.ask(post(f"Content-Length: {len(BODY) - 5}"), BODY).status == 400


@pytest.mark.parametrize(
    "lie",
    [
        "Content-Length: -1",
        "Content-Length: 1e3",
        "Content-Length: ten",
        "Content-Length: 5\nContent-Length: 6",
        "Content-Length: 5\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        f"Content-Length: {'9' * 40}",
        "Transfer-Encoding : chunked",
        f"X-Large: {'x' * 200_000}",
        "No colon",
    ],
)
def test_framing_that_cannot_be_trusted_is_refused(wire: Wire, lie: str) -> None:
    assert 400 <= wire.ask(post(lie), BODY).status < 500


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(wire: Wire, garbage: bytes) -> None:
    wire.send(garbage)

    assert 400 <= wire.read().status < 500


def test_a_client_that_waits_for_leave_gets_it(wire: Wire) -> None:
    interim = wire.ask(post(f"Expect: 100-continue\nContent-Length: {len(BODY)}"))
    assert interim.status == 100
    wire.send(BODY)

    assert wire.read().problem["code"] == "validation-failed"


def test_a_client_that_waits_for_leave_to_send_too_much_does_not(wire: Wire) -> None:
    assert wire.ask(post("Expect: 100-continue\nContent-Length: 99999999")).problem["code"] == "payload-too-large"


def test_requests_in_a_row_are_answered_in_a_row(wire: Wire) -> None:
    request = f"GET {API}/users/me HTTP/1.1\r\nHost: x\r\nX-Request-ID: %s\r\n\r\n"
    wire.send("".join(request % name for name in ("one", "two", "three")).encode())

    assert [wire.read().headers["x-request-id"] for _ in range(3)] == ["one", "two", "three"]


@pytest.mark.parametrize("given", ["one-1.2_3", "x" * 128])
def test_a_request_id_is_taken(wire: Wire, given: str) -> None:
    assert wire.ask(f"GET /health/live HTTP/1.1\nX-Request-ID: {given}").headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", " ", "x" * 129, "a b", "a;b", '"', "é", "<script>", "../x"])
def test_a_request_id_that_is_no_name_is_replaced(wire: Wire, given: str) -> None:
    made = wire.ask(f"GET /health/live HTTP/1.1\nX-Request-ID: {given}").headers["x-request-id"]

    assert re.fullmatch(r"[0-9a-f]{32}", made)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/sessions",
        f"{API}/nothing",
        f"{API}/sessions/",
        f"{API}//sessions",
        f"{API}/sessions/{OLD_ID}/",
        f"{API}/users/me/",
        f"{API}/runs",
        f"{API}/sessions/{OLD_ID}/messages/{OLD_ID}/nothing",
        f"{API}/../v1/sessions",
        f"{API}/Sessions",
        "/health/live/",
        "/metrics/",
        "/.env",
        "/" + "x" * 8_000,
    ],
)
def test_an_unknown_path_is_a_problem_and_no_redirect(wire: Wire, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = wire.ask(f"{method} {path} HTTP/1.1\nContent-Length: 0")
        assert (answer.status, answer.problem["code"]) == (404, "not-found"), path


def test_a_method_that_a_path_does_not_know_is_a_problem_that_names_those_it_knows(wire: Wire) -> None:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    known: dict[str, set[str]] = {}
    for operation in operations_of(document):
        known.setdefault(operation.path, set()).add(operation.method)
    walked = 0
    for path, methods in known.items():
        for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD"} - methods:
            url = re.sub(r"\{\w+\}", OLD_ID, path)
            # A path that another one with a parameter covers is that one's, where only that one has the method.
            others = {
                other
                for template, of_template in known.items()
                if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
                for other in of_template
            }
            if method in others:
                continue
            answer = wire.ask(f"{method} {url} HTTP/1.1\nContent-Length: 0")
            assert answer.status == 405, f"{method} {path}: {answer}"
            if method != "HEAD" and path.startswith("/v1/"):
                assert answer.openai_error["code"] == "method-not-allowed"
            elif method != "HEAD":
                assert answer.problem["code"] == "method-not-allowed"
            assert set(answer.headers["allow"].split(", ")) == others, f"{method} {path}"
            walked += 1
    assert walked > 100


def test_an_unheard_of_method_is_refused(wire: Wire) -> None:
    assert 400 <= wire.ask(f"BREW {API}/users/me HTTP/1.1").status < 500
