"""A run that this process answers now: what it has said, and what there is to go on from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import orjson

from chat_api.runs.estimates import estimate, request_tokens, total
from chat_api.runs.events import citations_data, delta_data
from chat_api.runs.live_stream import LiveStream
from chat_api.runs.repository import Claim
from chat_api.runs.tool_rounds import Call, Changed
from chat_api.tools.models import ToolStatus
from shared.contracts.chat import ChatRequest, DeltaEvent, DoneEvent, ErrorEvent, Usage
from shared.contracts.knowledge import CitationData
from shared.contracts.tools import PausedEvent, ToolCallEvent, ToolDecision

_PARAGRAPH = "\n\n"


class Stop(Enum):
    """Why a run is stopped from outside: somebody cancelled it, another process has it, or we shut down."""

    CANCELLED = auto()
    LEASE_LOST = auto()
    SHUTDOWN = auto()


class ActiveRun:
    """`calls` are those of its tools, as far as they are stored; `asked` what the model asks for at this moment."""

    def __init__(self, claim: Claim, stream: LiveStream) -> None:
        self.claim = claim
        self.stream = stream
        self.stop: Stop | None = None
        self.begun = False
        self.ending = False
        self.citations: list[dict[str, Any]] = []
        self.calls: list[Call] = []
        self.asked: list[ToolCallEvent] = []
        self.called_tools = claim.stream_position is not None
        self.waits = False
        """Whether it is stored that the run waits for people: nothing more is done here."""
        self.provider: str | None = None
        self.model: str | None = None
        self.task: asyncio.Task[None] | None = None
        self._usage = _usage(claim.usage)
        self._estimated = bool((claim.usage or {}).get("estimated"))
        self._turn: ChatRequest | None = None
        """What the agent was asked and has not told the use of."""
        self._turn_began = 0
        self._latency_ms: int = 0
        self._first_token_ms: int | None = None
        self._parts: list[str] = []
        self._length = 0
        self._stored_length = 0
        self._safe_length = 0
        self._begins_paragraph = False
        if self.called_tools:
            self._go_on()

    def _go_on(self) -> None:
        """From where the run was when its calls were stored: what came after them was never heard."""
        reply = orjson.loads(self.claim.reply)
        self._parts = [reply["content"][: self.claim.said_characters]]
        self._length = self._stored_length = len(self._parts[0])
        self._latency_ms = reply["latency_ms"] or 0
        self._first_token_ms = reply["time_to_first_token_ms"]
        self.provider, self.model = reply["provider"], reply["model"]
        self._reached_safety()

    @property
    def text(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    @property
    def has_spoken(self) -> bool:
        """Whether a reader may have heard something of the reply that another process could not go on from."""
        return self._length > self._safe_length or bool(self.citations)

    def _reached_safety(self) -> None:
        """All that was said is stored, with what the model asked for after it. What comes next is a new paragraph."""
        self._safe_length = self._length
        self._begins_paragraph = self._length > 0

    def say(self, text: str) -> None:
        """Pass on more of the reply. The offset counts Unicode code points."""
        if self._begins_paragraph:
            self._begins_paragraph = False
            # The agent begins a paragraph itself where it asked its model twice.
            if not self.text.endswith("\n") and not text.startswith("\n"):
                text = _PARAGRAPH + text
        self.stream.publish("message.delta", delta_data(self.claim.reply_message_id, self._length, text))
        self._parts.append(text)
        self._length += len(text)

    def says_who(self, event: DeltaEvent | ErrorEvent) -> None:
        """Note which model answers, as soon as the agent tells: it may be stopped before its end."""
        if event.provider is not None:
            self.provider, self.model = str(event.provider), event.model

    def cite(self, citations: list[CitationData]) -> None:
        """Pass on what the reply stands on."""
        if citations:
            self.citations = [citation.model_dump(mode="json") for citation in citations]
            self.stream.publish("message.citations", citations_data(self.claim.reply_message_id, self.citations))

    def requested(self, recorded: Sequence[Changed]) -> None:
        """Pass on what the model asked for, and whether a person has to be. It is stored, with all that was said."""
        self.calls.extend(change.call for change in recorded)
        self._reached_safety()
        for change in recorded:
            self.stream.publish("tool.requested", change.document)
            self.stream.publish(change.event, change.document)

    def answered(self, stored: Changed) -> None:
        """Pass on how a call ended."""
        self.calls = [stored.call if call.id == stored.call.id else call for call in self.calls]
        self.stream.publish(stored.event, stored.document)

    def settled(self, calls: list[Call], changed: Sequence[Changed]) -> None:
        """Go on from these calls, and pass on which of them changed."""
        self.calls = calls
        for change in changed:
            self.stream.publish(change.event, change.document)

    def awaits_any_of(self, decisions: Sequence[ToolDecision]) -> bool:
        """Whether a call that the agent was told to run has no result yet."""
        decided = {decision.call_id for decision in decisions}
        return any(call.status is ToolStatus.RUNNING and call.call_id in decided for call in self.calls)

    def asks(self, turn: ChatRequest) -> None:
        """Note that the agent is asked this now. What it never told of the turn before is estimated."""
        if self._turn is not None:
            self._usage, self._estimated = self._used_so_far(self._turn), True
        self._turn, self._turn_began = turn, self._length

    def broke_off(self) -> None:
        """The agent failed. A model that said nothing is taken to have done nothing."""
        if self._length == self._turn_began and not self.asked:
            self._turn = None

    def spent(self, usage: Usage) -> None:
        """Count what one call of the agent took to what those before it did."""
        self._usage = total(self._usage, usage)
        self._turn = None

    @property
    def spent_tokens(self) -> int:
        return 0 if self._usage is None else self._usage.total_tokens

    @property
    def usage(self) -> dict[str, Any] | None:
        """Of all calls of the agent; with an estimate for one that ended without telling."""
        used = self._usage if self._turn is None else self._used_so_far(self._turn)
        if used is None:
            return None
        return used.model_dump() | ({"estimated": True} if self._estimated or self._turn is not None else {})

    def _used_so_far(self, turn: ChatRequest) -> Usage:
        return total(self._usage, estimate(request_tokens(turn), self.text[self._turn_began :]))

    def took(self, end: DoneEvent | PausedEvent) -> None:
        """Count the time of one call of the agent. The first word is that of the first call that said one."""
        if self._first_token_ms is None and end.time_to_first_token_ms is not None:
            self._first_token_ms = self._latency_ms + end.time_to_first_token_ms
        self._latency_ms += end.latency_ms
        self.provider, self.model = str(end.provider), end.model

    @property
    def latency_ms(self) -> int | None:
        """Of all calls of the agent; None before the first has ended."""
        return self._latency_ms or None

    @property
    def first_token_ms(self) -> int | None:
        return self._first_token_ms

    def unstored_text(self) -> str | None:
        """The text so far, if it grew since the last call."""
        if self._length == self._stored_length:
            return None
        self._stored_length = self._length
        return self.text

    def interrupt(self, reason: Stop) -> None:
        if self.stop is None and not self.ending and self.task is not None:
            self.stop = reason
            # A task that is cancelled before its first step never runs, not even to clean up: it looks by itself.
            if self.begun:
                self.task.cancel()


def _usage(stored: dict[str, Any] | None) -> Usage | None:
    return None if stored is None else Usage.model_validate(stored)
