"""A turn's events → OpenAI's chunks, or its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, assert_never
from uuid import UUID

import orjson

from shared.contracts.chat import (
    ChatEvent,
    CitationsEvent,
    DeltaEvent,
    DoneEvent,
    ErrorEvent,
    FinishReason,
    Usage,
    UsageEvent,
)
from shared.contracts.knowledge import CitationData
from shared.contracts.tools import CALLER, ApprovalRequiredEvent, PausedEvent, ToolCallEvent, ToolResultEvent
from shared.openai.conversion import extra_content
from shared.openai.errors import DO_NOT_RETRY, Failure, failure_of
from shared.openai.requests import CompletionRequest
from shared.openai.stop import StopSequences
from shared.problems import Problem

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_MARKER = re.compile(r"[\[【](\d{1,3}(?:\s*[,;]\s*\d{1,3})*)[\]】]")


class NeedsApproval(Problem):
    status = 403
    code = "tool-needs-approval"
    title = "The turn waits for a person"
    detail = "A tool that the model called needs a person's approval, which nobody can give here. Use a session."


class Completion:
    """One choice, growing by events. `over` once nothing more is to be read; then `failure` tells how it went."""

    def __init__(self, wanted: CompletionRequest, *, run_id: UUID, created: int) -> None:
        self.over = False
        self.failure: Failure | None = None
        self._head = {"id": f"chatcmpl-{run_id.hex}", "created": created, "model": wanted.model}
        self._wants_usage = wanted.wants_usage
        self._one_call = wanted.parallel_tool_calls is False
        self._stop = StopSequences(wanted.stop_sequences)
        self._begun = False
        self._texts: list[str] = []
        self._calls: list[Json] = []
        self._annotations: list[Json] = []
        self._usage: Usage | None = None
        self._finish: FinishReason | None = None

    def read(self, event: ChatEvent) -> Iterator[Json]:
        """The chunks that the event makes."""
        match event:
            case DeltaEvent():
                yield from self._say(self._stop.feed(event.text))
                if self._stop.reached:
                    yield from self._end(FinishReason.STOP)
            case CitationsEvent():
                yield from self._cite(event.citations)
            case ToolCallEvent():
                yield from self._call(event)
            case UsageEvent():
                self._usage = event.usage
            case DoneEvent():
                yield from self._end(event.finish_reason)
            case PausedEvent():
                yield from self._pause()
            case ErrorEvent():
                self._fail(event)
            case ApprovalRequiredEvent() | ToolResultEvent():
                return  # between the agent and its tools: OpenAI's clients know only their own
            case _:
                assert_never(event)

    def answer(self) -> Json:
        """The whole of it, once it is over and went well."""
        assert self._finish is not None, "read to the end first"
        text = "".join(self._texts)
        message = {
            "role": "assistant",
            "content": text if text or not self._calls else None,
            "refusal": None,
            "annotations": self._annotations or None,
            "tool_calls": self._calls or None,
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish.value}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._counted()}

    def _say(self, text: str) -> Iterator[Json]:
        if text:
            self._texts.append(text)
            yield from self._chunk({"content": text})

    def _cite(self, citations: Sequence[CitationData]) -> Iterator[Json]:
        yield from self._say(self._stop.flush())
        self._annotations = annotated("".join(self._texts), citations)
        if self._annotations:
            yield from self._chunk({"content": "", "annotations": self._annotations})

    def _call(self, event: ToolCallEvent) -> Iterator[Json]:
        if event.source != CALLER or event.problem is not None or (self._calls and self._one_call):
            return
        yield from self._say(self._stop.flush())
        call, index = event.call, len(self._calls)
        arguments = orjson.dumps(call.arguments).decode()
        named = {"id": call.id, "type": "function", **extra_content(call.signature)}
        self._calls.append({**named, "function": {"name": call.name, "arguments": arguments}})
        yield from self._chunk(
            {"tool_calls": [{"index": index, **named, "function": {"name": call.name, "arguments": ""}}]}
        )
        yield from self._chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})

    def _pause(self) -> Iterator[Json]:
        if self._calls:
            yield from self._end(FinishReason.TOOL_CALLS)
        else:
            self._fail(ErrorEvent(problem=NeedsApproval().document()))

    def _end(self, finish: FinishReason) -> Iterator[Json]:
        yield from self._say(self._stop.flush())
        self.over, self._finish = True, finish
        yield from self._chunk({}, finish)
        if self._wants_usage:
            yield self._framed([], self._counted())

    def _fail(self, event: ErrorEvent) -> None:
        # The turn was handed to the agent: what a model did with it until now would be done again.
        self.over = True
        self.failure = failure_of(event.problem, retry_after=event.retry_after, headers=DO_NOT_RETRY)

    def _chunk(self, delta: Json, finish: FinishReason | None = None) -> Iterator[Json]:
        if not self._begun:
            self._begun = True
            yield from self._chunk({"role": "assistant", "content": ""})
        reason = None if finish is None else finish.value
        yield self._framed([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}], None)

    def _framed(self, choices: list[Json], usage: Json | None) -> Json:
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        return chunk | {"usage": usage} if self._wants_usage else chunk

    def _counted(self) -> Json | None:
        return None if self._usage is None else self._usage.model_dump()


def annotated(text: str, citations: Sequence[CitationData]) -> list[Json]:
    """One for each place where the text names a source, and one at the end for a source that it does not name."""
    places: dict[int, list[tuple[int, int]]] = {}
    for marker in _MARKER.finditer(text):
        for number in re.findall(r"\d+", marker[1]):
            places.setdefault(int(number), []).append(marker.span())
    end = (len(text), len(text))
    return [
        _annotation(citation, start, stop)
        for citation in citations
        for start, stop in places.get(citation.index, [end])
    ]


def _annotation(citation: CitationData, start: int, end: int) -> Json:
    document_id = str(citation.document_id)
    return {
        "type": "url_citation",
        "url_citation": {
            "start_index": start,
            "end_index": end,
            "title": citation.document_name,
            "url": f"/api/v1/documents/{document_id}",
        },
        "file_citation": {
            "file_id": document_id,
            "filename": citation.document_name,
            "number": citation.index,
            "chunk_id": str(citation.chunk_id),
            "page": citation.page,
            "score": citation.score,
            "snippet": citation.snippet,
        },
    }
