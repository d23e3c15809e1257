"""The scripted model's replies as bytes, encoded once per script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tests.fakes.scripted_model_calls import Turn, gemini_parts, openai_calls, openai_deltas
from tests.fakes.scripted_model_directive import Script


def encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _framed(payload: bytes, script: Script) -> bytes:
    end = b"\r\n" if script.crlf else b"\n"
    lead = b": keep-alive" + end + end if script.comments else b""
    return lead + b"data: " + payload + end + end


def _usage(request_chars: int, completion: int) -> tuple[int, int]:
    return max(1, request_chars // 4), completion


def _text_pieces(script: Script, turn: Turn) -> list[str]:
    return Script(chunk=script.chunk).pieces(turn.reply) if turn.is_decided else script.pieces(turn.reply)


@dataclass(frozen=True, slots=True)
class Frames:
    """A reply as bytes: one frame per piece, then what ends it, and what a mid-stream error looks like."""

    pieces: tuple[bytes, ...]
    ending: tuple[bytes, ...]
    error: bytes
    whole: bytes


@lru_cache(maxsize=512)
def openai_frames(script: Script, turn: Turn, model: str, include_usage: bool, chars: int) -> Frames:
    base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model}
    pieces = _text_pieces(script, turn)
    finish = script.finish
    if turn.calls and finish == "stop" and "stop" not in script.form.split(","):
        finish = "tool_calls"

    def chunk(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**base, "choices": [choice]} | ({"usage": None} if include_usage else {})

    deltas = [{"content": piece} for piece in pieces] + (openai_deltas(script, turn.calls) if turn.calls else [])
    contents = [chunk(delta, None) for delta in deltas]
    if contents:
        contents[0]["choices"][0]["delta"]["role"] = "assistant"
    prompt, completion = _usage(chars, len(contents))
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    ending = [_framed(encoded(chunk({}, finish)), script)]
    if script.usage and include_usage:
        ending.append(_framed(encoded({**base, "choices": [], "usage": usage}), script))
    ending.append(_framed(b"[DONE]", script))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces)}
    if turn.calls:
        message |= {"content": "".join(pieces) or None, "tool_calls": openai_calls(turn.calls)}
    whole = {
        **base,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    } | ({"usage": usage} if script.usage else {})
    error = {"error": {"message": "scripted failure", "type": "server_error", "param": None, "code": None}}
    return Frames(
        pieces=tuple(_framed(encoded(content), script) for content in contents),
        ending=tuple(ending),
        error=_framed(encoded(error), script),
        whole=encoded(whole),
    )


_GEMINI_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


@lru_cache(maxsize=512)
def gemini_frames(script: Script, turn: Turn, model: str, chars: int) -> Frames:
    pieces = _text_pieces(script, turn)
    calls = gemini_parts(script, turn.calls)

    def chunk(parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        return {"candidates": [candidate], "modelVersion": model, "responseId": "scripted"}

    called = [calls] if calls and "whole" in script.form.split(",") else [[part] for part in calls or []]
    contents = [*(chunk([{"text": piece}], None) for piece in pieces), *(chunk(parts, None) for parts in called)]
    prompt, completion = _usage(chars, len(contents))
    usage: dict[str, Any] = {}
    if script.usage:
        counts = {"promptTokenCount": prompt, "candidatesTokenCount": completion}
        usage = {"usageMetadata": {**counts, "totalTokenCount": prompt + completion}}
    finish = "MALFORMED_FUNCTION_CALL" if calls is None else _GEMINI_FINISH[script.finish]
    last = chunk([{"text": ""}], finish) | usage
    said = [{"text": "".join(pieces)}] if pieces or not calls else []
    whole = chunk([*said, *(calls or [])], finish) | usage
    if script.block:
        contents = []
        last = whole = {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": model} | usage
    error = {"error": {"code": 503, "message": "scripted failure", "status": "UNAVAILABLE"}}
    return Frames(
        pieces=tuple(_framed(encoded(content), script) for content in contents),
        ending=(_framed(encoded(last), script),),
        error=_framed(encoded(error), script),
        whole=encoded(whole),
    )


def answer_at_once(answer: dict[str, Any]) -> Frames:
    return Frames(pieces=(), ending=(), error=b"", whole=encoded(answer))
