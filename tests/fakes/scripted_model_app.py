"""The ASGI application of the scripted model server. Its directives are described in `scripted_model`.

Plain ASGI with frames encoded once per script, so that the server stays cheap next to what it measures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, assert_never

from tests.fakes.scripted_vectors import gemini_embeddings, openai_embeddings, ranking

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_DIRECTIVE = re.compile(r"\[\[script\s*(.*?)\]\]", re.DOTALL)
_OPTION = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')
_WORD = re.compile(r"\S+\s*|\s+")
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


@dataclass(frozen=True, slots=True)
class Script:
    """One parsed directive. The names are those of the options."""

    text: str | None = None
    tokens: int | None = None
    chunk: int | None = None
    delay_ms: float = 0
    first_delay_ms: float = 0
    burst: int = 1
    finish: str = "stop"
    usage: bool = True
    status: int | None = None
    retry_after: int | None = None
    times: int | None = None
    key: str | None = None
    silent: bool = False
    fail_after: int | None = None
    hang_after: int | None = None
    drop_after: int | None = None
    end_after: int | None = None
    surrogate: str | None = None
    nul: bool = False
    crlf: bool = False
    comments: bool = False
    block: bool = False
    code: str | None = None
    dimensions: int | None = None
    lists: bool = False
    missing: int = 0
    zero: bool = False
    logits: bool = False
    garbage: bool = False

    def applies(self, seen_before: int) -> bool:
        """Whether the faults of this script still happen: `times` limits them to the first calls."""
        return self.times is None or seen_before < self.times

    def healthy(self) -> Script:
        return Script(text=self.text, tokens=self.tokens, chunk=self.chunk, delay_ms=self.delay_ms, key=self.key)

    def pieces(self, said: str) -> list[str]:
        if self.tokens is not None:
            word = self.text
            pieces = [word if word is not None else f"word{index} " for index in range(self.tokens)]
        else:
            reply = self.text if self.text is not None else f"You said: {said}"
            if self.chunk:
                pieces = [reply[start : start + self.chunk] for start in range(0, len(reply), self.chunk)]
            else:
                pieces = _WORD.findall(reply)
        match self.surrogate:
            case "1" | "pair":
                pieces[1:1] = ["\ud83d", "\ude00"]
            case "lone":
                pieces[1:1] = ["a\ud83db"]
        if self.nul:
            pieces[1:1] = ["a\x00b"]
        return pieces


@lru_cache(maxsize=512)
def parse_script(message: str) -> tuple[Script, str]:
    """The directive in the message, and the message without it. Raises `ValueError` on an unknown option."""
    found = _DIRECTIVE.search(message)
    said = _DIRECTIVE.sub("", message).strip()
    if found is None:
        return Script(), said
    values: dict[str, Any] = {}
    for name, quoted, bare in _OPTION.findall(found.group(1)):
        raw = quoted or bare
        kind = str(Script.__annotations__.get(name, ""))
        if not kind:
            raise ValueError(f"the scripted model knows no option {name!r}")
        if "int" in kind:
            values[name] = int(raw)
        elif kind == "float":
            values[name] = float(raw)
        elif kind == "bool":
            values[name] = raw not in ("0", "false")
        else:
            values[name] = raw
    return Script(**values), said


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


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _framed(payload: bytes, script: Script) -> bytes:
    end = b"\r\n" if script.crlf else b"\n"
    lead = b": keep-alive" + end + end if script.comments else b""
    return lead + b"data: " + payload + end + end


def _usage(request_chars: int, completion: int) -> tuple[int, int]:
    return max(1, request_chars // 4), completion


@dataclass(frozen=True, slots=True)
class Frames:
    """A reply as bytes: one frame per piece, then what ends it, and what a mid-stream error looks like."""

    pieces: tuple[bytes, ...]
    ending: tuple[bytes, ...]
    error: bytes
    whole: bytes


@lru_cache(maxsize=512)
def openai_frames(script: Script, said: str, model: str, include_usage: bool, chars: int) -> Frames:
    base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model}
    pieces = script.pieces(said)

    def chunk(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**base, "choices": [choice]} | ({"usage": None} if include_usage else {})

    contents = [chunk({"content": piece}, None) for piece in pieces]
    if contents:
        contents[0]["choices"][0]["delta"]["role"] = "assistant"
    prompt, completion = _usage(chars, len(pieces))
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    ending = [_framed(_json(chunk({}, script.finish)), script)]
    if script.usage and include_usage:
        ending.append(_framed(_json({**base, "choices": [], "usage": usage}), script))
    ending.append(_framed(b"[DONE]", script))
    message = {"role": "assistant", "content": "".join(pieces)}
    whole = {
        **base,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": script.finish}],
    } | ({"usage": usage} if script.usage else {})
    error = {"error": {"message": "scripted failure", "type": "server_error", "param": None, "code": None}}
    return Frames(
        pieces=tuple(_framed(_json(content), script) for content in contents),
        ending=tuple(ending),
        error=_framed(_json(error), script),
        whole=_json(whole),
    )


_GEMINI_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


@lru_cache(maxsize=512)
def gemini_frames(script: Script, said: str, model: str, chars: int) -> Frames:
    pieces = script.pieces(said)
    prompt, completion = _usage(chars, len(pieces))
    usage: dict[str, Any] = {}
    if script.usage:
        counts = {"promptTokenCount": prompt, "candidatesTokenCount": completion}
        usage = {"usageMetadata": {**counts, "totalTokenCount": prompt + completion}}

    def chunk(text: str, finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        return {"candidates": [candidate], "modelVersion": model, "responseId": "scripted"}

    finish = _GEMINI_FINISH[script.finish]
    last = chunk("", finish) | usage
    whole = chunk("".join(pieces), finish) | usage
    contents = [chunk(piece, None) for piece in pieces]
    if script.block:
        contents = []
        last = whole = {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": model} | usage
    error = {"error": {"code": 503, "message": "scripted failure", "status": "UNAVAILABLE"}}
    return Frames(
        pieces=tuple(_framed(_json(content), script) for content in contents),
        ending=(_framed(_json(last), script),),
        error=_framed(_json(error), script),
        whole=_json(whole),
    )


def _whole(answer: dict[str, Any]) -> Frames:
    return Frames(pieces=(), ending=(), error=b"", whole=_json(answer))


def _last_user_text(protocol: Protocol, body: dict[str, Any]) -> str:
    match protocol:
        case Protocol.OPENAI:
            users = [item for item in body.get("messages", []) if item.get("role") == "user"]
            content = users[-1].get("content", "") if users else ""
            parts = content if isinstance(content, list) else [{"text": content}]
        case Protocol.GEMINI:
            users = [item for item in body.get("contents", []) if item.get("role", "user") == "user"]
            parts = users[-1].get("parts", []) if users else []
        case Protocol.OPENAI_EMBEDDINGS:
            texts = body["input"]
            parts = [{"text": text} for text in ([texts] if isinstance(texts, str) else texts)]
        case Protocol.GEMINI_EMBEDDINGS:
            parts = [part for request in body["requests"] for part in request["content"]["parts"]]
        case Protocol.RERANK:
            parts = [{"text": body["query"]}]
        case _:
            assert_never(protocol)
    return " ".join(str(part.get("text", "")) for part in parts)


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
            await _answer(send, 200, _json(self.stats()))
        elif path == "/_stats" and method == "DELETE":
            self._exchanges.clear()
            self._bodies.clear()
            self._calls.clear()
            await _answer(send, 200, b"{}")
        elif method == "GET" and path.endswith("/models"):
            await _answer(send, 200, _json({"object": "list", "data": [{"id": "scripted", "object": "model"}]}))
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
            await _answer(send, 404, _json({"error": {"message": f"no route {method} {path}", "code": 404}}))

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
        text = _last_user_text(protocol, body)
        try:
            script, said = parse_script(text)
        except ValueError as error:
            await _refuse(protocol, send, 400, str(error), None)
            return
        count_key = script.key or text
        if not script.applies(self._calls[count_key]):
            script = script.healthy()
        self._calls[count_key] += 1
        exchange = self._record(protocol, scope, body, script)
        producer = asyncio.ensure_future(self._reply(exchange, script, said, body, send))
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

    async def _reply(self, exchange: Exchange, script: Script, said: str, body: dict[str, Any], send: Send) -> None:
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
        frames = _frames(exchange, script, said, body)
        if exchange.stream:
            await _stream(exchange, script, frames, send)
        else:
            await asyncio.sleep((script.first_delay_ms + script.delay_ms * len(frames.pieces)) / 1000)
            if script.drop_after is not None and not frames.pieces:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                raise _Dropped
            await _answer(send, 200, frames.whole)
        exchange.end(State.FINISHED)


def _frames(exchange: Exchange, script: Script, said: str, body: dict[str, Any]) -> Frames:
    chars = sum(len(str(item)) for item in body.get("messages", body.get("contents", [])))
    match exchange.protocol:
        case Protocol.OPENAI:
            include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return openai_frames(script, said, exchange.model, include_usage, chars)
        case Protocol.GEMINI:
            return gemini_frames(script, said, exchange.model, chars)
        case Protocol.OPENAI_EMBEDDINGS:
            return _whole(openai_embeddings(script, body))
        case Protocol.GEMINI_EMBEDDINGS:
            return _whole(gemini_embeddings(script, body))
        case Protocol.RERANK:
            return _whole(ranking(script, body, said))
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
    await _answer(send, status, _json({"error": error}), extra)


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
