"""Tokens that nobody counted: what a reply took that was broken off, or whose provider does not say.

They are told from counted ones by `estimated`. Quotas and costs take both alike: who breaks a reply off has used it.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from shared.contracts.chat import ChatEvent, ChatMessage, ChatRequest, DeltaEvent, Usage, UsageEvent
from shared.openai.embeddings import EmbeddingRequest, EmbeddingUsage

_BYTES_PER_TOKEN = 4
"""Of UTF-8: about right for English prose in all common vocabularies, and for scripts of three bytes a sign too."""

_PER_MESSAGE = 4
"""What says whose message it is."""

_PER_IMAGE = 300
"""Providers count between 85 and 1,600, by size."""


def tokens_of(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)


def prompt_tokens(texts: Iterable[str]) -> int:
    return sum(tokens_of(text) + _PER_MESSAGE for text in texts)


def request_tokens(request: ChatRequest) -> int:
    """What a turn shows its model, but for the passages and the tools, which the agent adds."""
    images = sum(len(message.images or ()) for message in request.messages)
    texts = [request.system_prompt or "", *(_text(message) for message in request.messages)]
    return prompt_tokens(text for text in texts if text) + _PER_IMAGE * images


def estimate(prompt: int, said: str) -> Usage:
    """`prompt` is in tokens, `said` what was heard of the reply."""
    completion = tokens_of(said)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def embedding_tokens(wanted: EmbeddingRequest) -> int:
    """What texts take that were asked to become vectors."""
    return sum(tokens_of(text) for text in ([wanted.input] if isinstance(wanted.input, str) else wanted.input))


def told_tokens(answer: bytes) -> int | None:
    """What an answer with vectors says of its use. It ends with that: megabytes of vectors are not read for it."""
    try:
        told = orjson.loads(b"{" + answer[answer.rindex(b'"usage"') :])
        return EmbeddingUsage.model_validate(told["usage"]).total_tokens
    except ValueError:
        return None


def total(one: Usage | None, other: Usage) -> Usage:
    if one is None:
        return other
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        total_tokens=one.total_tokens + other.total_tokens,
    )


class TurnUsage:
    """What one turn used, as far as it was heard."""

    def __init__(self, turn: ChatRequest) -> None:
        self._turn = turn
        self._told = 0
        self._said: list[str] = []

    def hear(self, event: ChatEvent) -> None:
        if isinstance(event, UsageEvent):
            self._told += event.usage.total_tokens
        elif isinstance(event, DeltaEvent):
            self._said.append(event.text)

    @property
    def tokens(self) -> int:
        """What the provider told; else an estimate, where anything was said."""
        if self._told or not self._said:
            return self._told
        return estimate(request_tokens(self._turn), "".join(self._said)).total_tokens


def _text(message: ChatMessage) -> str:
    calls = [str(call.arguments) for call in message.tool_calls or ()]
    return "\n".join([message.content, *calls])
