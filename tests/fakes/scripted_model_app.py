"""The ASGI application of the scripted model server. Its directives are described in `scripted_model`.

Plain ASGI with frames encoded once per script, so that the server stays cheap next to what it measures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, assert_never

from tests.fakes.scripted_model_calls import Prompt, Turn, read_gemini, read_openai, turn_for
from tests.fakes.scripted_model_directive import Script, parse_script
from tests.fakes.scripted_model_frames import Frames, answer_at_once, encoded, gemini_frames, openai_frames
from tests.fakes.scripted_vectors import gemini_embeddings, openai_embeddings, ranking

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_KEPT_REQUESTS = 5_000
_KEPT_BODIES = 50


class Protocol(StrEnum):
    OPENAI = "openai"
    GEMINI = "gemini"
    OPENAI_EMBEDDINGS = "openai_embeddings"
    GEMINI_EMBEDDINGS = "gemini_embeddings"
    RERANK = "rerank"


class State(StrEnum):
    STARTED = "started"
    FINISHED = "finished"
    REFUSED = "refused"
    DROPPED = "dropped"
    CLOSED_BY_CLIENT = "closed_by_client"


@dataclass(slots=True)
class Exchange:
    """One request as `/_stats` shows it. Times are seconds since the epoch."""

    id: int
    protocol: Protocol
    path: str
    model: str
    stream: bool
    key: str | None
    authorized_by: str | None
    started_at: float = field(default_factory=time.time)
    state: State = State.STARTED
    first_piece_at: float | None = None
    ended_at: float | None = None
    pieces_sent: int = 0

    def end(self, state: State) -> None:
        if self.state is State.STARTED:
            self.state = state
            self.ended_at = time.time()


class _Dropped(Exception):
    """The script says to cut the connection here."""


def _text_of(protocol: Protocol, body: dict[str, Any], prompt: Prompt | None) -> str:
    """Where the directive stands: what the user said last, or what is to be embedded or ranked."""
    match protocol:
        case Protocol.OPENAI | Protocol.GEMINI:
            return prompt.user if prompt is not None else ""
        case Protocol.OPENAI_EMBEDDINGS:
            texts = body["input"]
            return texts if isinstance(texts, str) else " ".join(texts)
        case Protocol.GEMINI_EMBEDDINGS:
            return " ".join(part["text"] for request in body["requests"] for part in request["content"]["parts"])
        case Protocol.RERANK:
            return str(body["query"])
        case _:
            assert_never(protocol)


def _prompt_of(protocol: Protocol, body: dict[str, Any]) -> Prompt | None:
    match protocol:
        case Protocol.OPENAI:
            return read_openai(body)
        case Protocol.GEMINI:
            return read_gemini(body)
        case Protocol.OPENAI_EMBEDDINGS | Protocol.GEMINI_EMBEDDINGS | Protocol.RERANK:
            return None
        case _:
            assert_never(protocol)


class ScriptedModel:
    """The application: `POST` to any protocol, `GET /_stats`, `DELETE /_stats`, `GET /v1/models`."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._exchanges: deque[Exchange] = deque(maxlen=_KEPT_REQUESTS)
        self._bodies: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._calls: Counter[str] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        method, path = scope["method"], scope["path"]
        if path == "/_stats" and method == "GET":
            await _answer(send, 200, encoded(self.stats()))
        elif path == "/_stats" and method == "DELETE":
            self._exchanges.clear()
            self._bodies.clear()
            self._calls.clear()
            await _answer(send, 200, b"{}")
        elif method == "GET" and path.endswith("/models"):
            await _answer(send, 200, encoded({"object": "list", "data": [{"id": "scripted", "object": "model"}]}))
        elif method == "POST" and path.endswith("/chat/completions"):
            await self._converse(Protocol.OPENAI, scope, receive, send)
        elif method == "POST" and path.endswith((":streamGenerateContent", ":generateContent")):
            await self._converse(Protocol.GEMINI, scope, receive, send)
        elif method == "POST" and path.endswith("/embeddings"):
            await self._converse(Protocol.OPENAI_EMBEDDINGS, scope, receive, send)
        elif method == "POST" and path.endswith(":batchEmbedContents"):
            await self._converse(Protocol.GEMINI_EMBEDDINGS, scope, receive, send)
        elif method == "POST" and path.endswith("/rerank"):
            await self._converse(Protocol.RERANK, scope, receive, send)
        else:
            await _answer(send, 404, encoded({"error": {"message": f"no route {method} {path}", "code": 404}}))

    def stats(self) -> dict[str, Any]:
        states = Counter(exchange.state.value for exchange in self._exchanges)
        return {
            "now": time.time(),
            "total": len(self._exchanges),
            "open": states[State.STARTED.value],
            "states": {state.value: states[state.value] for state in State},
            "requests": [asdict(exchange) | {"body": self._bodies.get(exchange.id)} for exchange in self._exchanges],
        }

    async def _converse(self, protocol: Protocol, scope: Message, receive: Receive, send: Send) -> None:
        body = json.loads(await _read(receive))
        prompt = _prompt_of(protocol, body)
        text = _text_of(protocol, body, prompt)
        try:
            script, said = parse_script(text)
        except ValueError as error:
            await _refuse(protocol, send, 400, str(error), None)
            return
        if script.signed and prompt is not None and prompt.unsigned:
            await _refuse(protocol, send, 400, "Function call is missing a thought_signature.", None)
            return
        count_key = script.key or text
        if not script.applies(self._calls[count_key]):
            script = script.healthy()
        self._calls[count_key] += 1
        exchange = self._record(protocol, scope, body, script)
        producer = asyncio.ensure_future(self._reply(exchange, script, said, prompt, body, send))
        watcher = asyncio.ensure_future(_until_disconnect(receive))
        try:
            await asyncio.wait({producer, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not producer.done():
                exchange.end(State.CLOSED_BY_CLIENT)
                producer.cancel()
                await asyncio.wait({producer})
            elif not producer.cancelled():
                producer.result()
        except _Dropped:
            exchange.end(State.DROPPED)  # returning with the response unfinished makes the server cut the line
        finally:
            watcher.cancel()
            producer.cancel()
            exchange.end(State.CLOSED_BY_CLIENT)

    def _record(self, protocol: Protocol, scope: Message, body: dict[str, Any], script: Script) -> Exchange:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        path: str = scope["path"]
        match protocol:
            case Protocol.OPENAI | Protocol.OPENAI_EMBEDDINGS | Protocol.RERANK:
                model, stream = str(body.get("model")), bool(body.get("stream"))
            case Protocol.GEMINI | Protocol.GEMINI_EMBEDDINGS:
                model = path.rpartition("/")[2].partition(":")[0]
                stream = path.endswith(":streamGenerateContent")
            case _:
                assert_never(protocol)
        exchange = Exchange(
            id=next(self._ids),
            protocol=protocol,
            path=path,
            model=model,
            stream=stream,
            key=script.key,
            authorized_by=headers.get("authorization") or headers.get("x-goog-api-key"),
        )
        self._exchanges.append(exchange)
        self._bodies[exchange.id] = body
        while len(self._bodies) > _KEPT_BODIES:
            self._bodies.popitem(last=False)
        return exchange

    async def _reply(
        self, exchange: Exchange, script: Script, said: str, prompt: Prompt | None, body: dict[str, Any], send: Send
    ) -> None:
        if script.silent:
            await asyncio.Event().wait()
        if script.status is not None:
            await _refuse(
                exchange.protocol, send, script.status, "scripted refusal", script.retry_after, code=script.code
            )
            exchange.end(State.REFUSED)
            return
        if script.garbage:
            await _answer(send, 200, b"<html>not what was asked for</html>")
            exchange.end(State.FINISHED)
            return
        frames = _frames(exchange, script, said, prompt, body)
        if exchange.stream:
            await _stream(exchange, script, frames, send)
        else:
            await asyncio.sleep((script.first_delay_ms + script.delay_ms * len(frames.pieces)) / 1000)
            if script.drop_after is not None and not frames.pieces:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                raise _Dropped
            await _answer(send, 200, frames.whole)
        exchange.end(State.FINISHED)


def _frames(exchange: Exchange, script: Script, said: str, prompt: Prompt | None, body: dict[str, Any]) -> Frames:
    chars = sum(len(str(item)) for item in body.get("messages", body.get("contents", [])))
    turn = turn_for(script, said, prompt, body) if prompt is not None else Turn("")
    match exchange.protocol:
        case Protocol.OPENAI:
            include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return openai_frames(script, turn, exchange.model, include_usage, chars)
        case Protocol.GEMINI:
            return gemini_frames(script, turn, exchange.model, chars)
        case Protocol.OPENAI_EMBEDDINGS:
            return answer_at_once(openai_embeddings(script, body))
        case Protocol.GEMINI_EMBEDDINGS:
            return answer_at_once(gemini_embeddings(script, body))
        case Protocol.RERANK:
            return answer_at_once(ranking(script, body, said))
        case _:
            assert_never(exchange.protocol)


async def _stream(exchange: Exchange, script: Script, frames: Frames, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    loop = asyncio.get_running_loop()
    # Each piece has its own moment, so that the stream's length does not grow with what sending costs.
    due = loop.time() + script.first_delay_ms / 1000
    pieces = frames.pieces
    for start in range(0, len(pieces), script.burst):
        wait = due - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        due += script.delay_ms / 1000
        if await _fault(start, script, frames, send):
            return
        batch = pieces[start : start + script.burst]
        await send({"type": "http.response.body", "body": b"".join(batch), "more_body": True})
        if exchange.first_piece_at is None:
            exchange.first_piece_at = time.time()
        exchange.pieces_sent += len(batch)
    if await _fault(len(pieces), script, frames, send):
        return
    await send({"type": "http.response.body", "body": b"".join(frames.ending)})


async def _fault(sent: int, script: Script, frames: Frames, send: Send) -> bool:
    """Act out the fault that is due after so many pieces. Returns whether the reply is over."""
    if script.hang_after is not None and sent >= script.hang_after:
        await asyncio.Event().wait()
    if script.drop_after is not None and sent >= script.drop_after:
        raise _Dropped
    if script.fail_after is not None and sent >= script.fail_after:
        await send({"type": "http.response.body", "body": frames.error})
        return True
    if script.end_after is not None and sent >= script.end_after:
        await send({"type": "http.response.body", "body": b""})
        return True
    return False


async def _refuse(
    protocol: Protocol, send: Send, status: int, text: str, retry_after: int | None, *, code: str | None = None
) -> None:
    match protocol:
        case Protocol.OPENAI | Protocol.OPENAI_EMBEDDINGS | Protocol.RERANK:
            error: dict[str, Any] = {"message": text, "type": "scripted", "param": None, "code": code}
        case Protocol.GEMINI | Protocol.GEMINI_EMBEDDINGS:
            words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
            words |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
            error = {"code": status, "message": text, "status": words.get(status, "UNKNOWN")}
        case _:
            assert_never(protocol)
    extra = [(b"retry-after", str(retry_after).encode())] if retry_after is not None else []
    await _answer(send, status, encoded({"error": error}), extra)


async def _answer(send: Send, status: int, body: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(extra or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
