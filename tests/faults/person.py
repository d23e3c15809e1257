"""Somebody who uses the service through both replicas, and does not give up when one is away."""

from __future__ import annotations

import asyncio
import random
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import httpx

from tests.faults.streams import Reader

API = "/api/v1"
FINAL = frozenset({"completed", "failed", "cancelled"})
Json = dict[str, Any]
_RETRY_SECONDS = 0.1


class Mode(StrEnum):
    """The three ways to send a message."""

    JSON = "json"
    SSE = "sse"
    ASYNC = "respond-async"


class Refused(AssertionError):
    """The service blamed the client, who did nothing wrong."""


def script(text: str | None = None, **options: object) -> str:
    """A message that tells the scripted model what to say; see `tests.fakes.scripted_model`."""
    words = [f"{name}={value}" for name, value in options.items()]
    if text is not None:
        words.append(f'text="{text}"')
    return f"[[script {' '.join(words)}]]"


class Person:
    """`urls` are the replicas. Retries whatever a restart may cause, and nothing else."""

    def __init__(self, urls: tuple[str, ...], http: httpx.AsyncClient) -> None:
        self.urls = urls
        self.http = http
        self.id = ""
        self.headers: dict[str, str] = {}

    async def register(self) -> None:
        name = f"faults-{secrets.token_hex(6)}"
        password = secrets.token_urlsafe(16)
        account = {"email": f"{name}@example.org", "username": name, "password": password}
        answer = await self.persist("POST", "/auth/register", json=account)
        user_id = str(answer.json()["id"])
        answer = await self.persist("POST", "/auth/token", data={"username": name, "password": password})
        self.signed_in(user_id, answer.json()["access_token"])

    def signed_in(self, user_id: str, token: str) -> None:
        self.id = user_id
        self.headers = {"Authorization": f"Bearer {token}"}

    def anywhere(self) -> str:
        return random.choice(self.urls)

    async def session(self) -> str:
        answer = await self.persist("POST", "/sessions", json={"title": "faults"})
        return str(answer.json()["id"])

    async def persist(
        self,
        method: str,
        path: str,
        *,
        url: str | None = None,
        first_url: str | None = None,
        within: float = 30,
        **request: Any,
    ) -> httpx.Response:
        """Ask until there is an answer that is no fault of the service.

        `url` pins it to one replica, `first_url` only its first attempt.
        """
        give_up_at = time.monotonic() + within
        headers = self.headers | request.pop("headers", {})
        while True:
            last = ""
            try:
                answer = await self.http.request(
                    method, f"{url or first_url or self.anywhere()}{API}{path}", headers=headers, **request
                )
            except httpx.TransportError as error:
                last = type(error).__name__
            else:
                if answer.status_code < 400:
                    return answer
                last = f"{answer.status_code} {answer.text}"
                if answer.status_code < 500 and answer.status_code != 429:
                    raise Refused(last)
                # Whatever is wrong, the service has to say so in its own words.
                assert answer.headers["content-type"] == "application/problem+json", last
                assert answer.status_code in (429, 503), last
            first_url = None
            assert time.monotonic() < give_up_at, f"{method} {path}: {last}"
            await asyncio.sleep(_RETRY_SECONDS)

    async def send(
        self,
        session: str,
        content: str,
        *,
        client_id: str | None = None,
        url: str | None = None,
        first_url: str | None = None,
        mode: Mode = Mode.ASYNC,
    ) -> Json:
        """Send by JSON until it is acknowledged: `{message, run}`, and `reply` where it is waited for."""
        body = {"content": content, "client_id": client_id or secrets.token_hex(8)}
        headers = {"Prefer": "respond-async"} if mode is Mode.ASYNC else {}
        path = f"/sessions/{session}/messages"
        answer = await self.persist("POST", path, url=url, first_url=first_url, json=body, headers=headers)
        sent: Json = answer.json()
        return sent

    @asynccontextmanager
    async def streaming(
        self, reader: Reader, session: str, content: str, client_id: str, *, url: str | None = None
    ) -> AsyncIterator[httpx.Response]:
        """One connection of a stream: a send as long as no run is known, else its events from where `reader` is."""
        base = f"{url or self.anywhere()}{API}"
        reader.connected_anew()
        if reader.run_id is None:
            request = self.http.build_request(
                "POST",
                f"{base}/sessions/{session}/messages",
                json={"content": content, "client_id": client_id},
                headers=self.headers | {"Accept": "text/event-stream"},
            )
        else:
            headers = self.headers | {"Last-Event-ID": str(reader.last_id)}
            request = self.http.build_request("GET", f"{base}/runs/{reader.run_id}/events", headers=headers)
        answer = await self.http.send(request, stream=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def stream(
        self,
        session: str,
        content: str,
        client_id: str | None = None,
        *,
        within: float = 40,
        cut: random.Random | None = None,
        url: str | None = None,
        first_url: str | None = None,
    ) -> tuple[Reader, int]:
        """Send and read the reply to its end, however often the connection breaks; how often that was.

        With `cut`, the client breaks it as well, after a random number of bytes.
        """
        reader = Reader()
        next_url = url or first_url
        client_id = client_id or secrets.token_hex(8)
        give_up_at = time.monotonic() + within
        cuts = 0
        while not reader.ended:
            assert time.monotonic() < give_up_at, f"no end after {within} s: {reader.events[-2:]}"
            budget = None if cut is None else int(cut.expovariate(1 / 900)) + 1
            try:
                async with self.streaming(reader, session, content, client_id, url=next_url) as answer:
                    next_url = url
                    if answer.status_code >= 500 or answer.status_code == 429:
                        await asyncio.sleep(_RETRY_SECONDS)
                        continue
                    assert answer.status_code == 200, await answer.aread()
                    await _read(answer, reader, budget)
            except httpx.TransportError:
                next_url = url
                await asyncio.sleep(_RETRY_SECONDS)
            cuts += not reader.ended
        return reader, cuts

    async def run(self, run_id: str, *, url: str | None = None) -> Json:
        run: Json = (await self.persist("GET", f"/runs/{run_id}", url=url)).json()
        return run

    async def run_ended(self, run_id: str, within: float = 30) -> Json:
        give_up_at = time.monotonic() + within
        while (run := await self.run(run_id))["status"] not in FINAL:
            assert time.monotonic() < give_up_at, f"after {within} s still {run}"
            await asyncio.sleep(0.05)
        return run

    async def message(self, session: str, message_id: str) -> Json:
        message: Json = (await self.persist("GET", f"/sessions/{session}/messages/{message_id}")).json()
        return message

    async def spoken(self, run: Json, within: float = 10) -> None:
        """Wait until the stored reply of a run has text: it is checkpointed while it grows."""
        give_up_at = time.monotonic() + within
        while True:
            current = await self.run(run["id"])
            if current["reply_message_id"] is not None:
                reply = await self.message(run["session_id"], current["reply_message_id"])
                if reply["content"]:
                    return
            assert time.monotonic() < give_up_at, f"the run does not speak: {current}"
            await asyncio.sleep(0.05)


async def _read(answer: httpx.Response, reader: Reader, budget: int | None) -> None:
    async for chunk in answer.aiter_raw():
        if budget is not None and len(chunk) >= budget:
            reader.feed(chunk[:budget])
            return
        reader.feed(chunk)
        if reader.ended:
            return
        budget = None if budget is None else budget - len(chunk)


@asynccontextmanager
async def person(*urls: str) -> AsyncIterator[Person]:
    """A new account with a client of its own."""
    async with client() as http:
        somebody = Person(urls, http)
        await somebody.register()
        yield somebody


def client() -> httpx.AsyncClient:
    """For this machine alone: reading certificates, whom nobody is asked for, would take 40 ms."""
    limits = httpx.Limits(max_connections=500, max_keepalive_connections=50)
    nothing_trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(timeout=httpx.Timeout(5, read=40), limits=limits, trust_env=False, verify=nothing_trusted)
