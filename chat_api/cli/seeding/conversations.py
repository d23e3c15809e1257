"""Conversations as rows: of one person with the assistant, and rooms of several, over the last two months.

They are written as they would look afterwards. Nothing is answered now: no run starts, and no log of events is kept,
so a socket that follows a session reloads it first, as it does after any long absence.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from chat_api.cli.seeding import words
from chat_api.cli.seeding.words import Subject
from chat_api.cli.seeding.writing import Writer

DAYS = 60
_ROOMS = 0.12
_FAILURES = 0.03
_TOOL_CALLS = 0.15
_MOST_TURNS = 30

Price = Callable[[str, str, int, int], Decimal | None]
"""What a provider's model takes for so many prompt and completion tokens; None where nobody knows."""


class Model(NamedTuple):
    provider: str
    name: str


MODELS = (
    Model("google_genai", "gemini-2.0-flash"),
    Model("openai", "gpt-4o-mini"),
    Model("local", "smollm2-135m-instruct"),
)
_ERROR = {
    "type": "about:blank",
    "title": "The model is unavailable",
    "status": 503,
    "detail": "The model's provider did not answer in time.",
    "code": "model-unavailable",
}


@dataclass
class Rows:
    """Rows by table, in the order in which they can be written; each row's values by column."""

    sessions: list[dict[str, Any]] = field(default_factory=list)
    participants: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    tool_executions: list[dict[str, Any]] = field(default_factory=list)

    def tables(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        yield from vars(self).items()


class Ids:
    """UUIDv7 of given moments: as real ones, they rise with time."""

    def __init__(self, chosen: random.Random) -> None:
        self._chosen = chosen

    def at(self, moment: datetime) -> UUID:
        milliseconds = int(moment.timestamp() * 1000)
        bits = milliseconds << 80 | self._chosen.getrandbits(80)
        return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62)


class Conversations:
    """`now` is when the last of them ended, about. The same `now` gives the same rows."""

    def __init__(self, chosen: random.Random, people: Sequence[UUID], now: datetime, price: Price) -> None:
        self._chosen = chosen
        self._writer = Writer(chosen)
        self._ids = Ids(chosen)
        self._people = people
        self._now = now
        self._price = price
        self._rows = Rows()

    def write(self, count: int) -> Rows:
        for number in range(count):
            # Everybody has one; beyond that, some talk much more than others.
            owner = number if number < len(self._people) else int(self._chosen.triangular(0, len(self._people), 0))
            self._conversation(self._people[owner])
        return self._rows

    def _conversation(self, owner: UUID) -> None:
        chosen = self._chosen
        subject = self._writer.subject()
        participants = [owner]
        if chosen.random() < _ROOMS:
            others = [person for person in self._people if person != owner]
            participants += chosen.sample(others, min(len(others), chosen.randint(1, 4)))
        began = self._moment()
        session_id = self._ids.at(began)
        talk = _Talk(self, session_id, participants, subject, began)
        talk.hold(min(int(chosen.paretovariate(1.1) * 2), _MOST_TURNS))
        is_old = self._now - talk.at > timedelta(days=30)
        self._rows.sessions.append(
            {
                "id": session_id,
                "title": self._writer.one_of(words.TITLES, subject),
                "owner_id": owner,
                "status": "archived" if is_old and chosen.random() < 0.4 else "active",
                "tags": chosen.sample(words.TAGS, chosen.choice((0, 0, 1, 2))),
                "participant_count": len(participants),
                "message_count": talk.seq,
                "last_seq": talk.seq,
                "last_activity_at": talk.at,
                "created_at": began,
                "updated_at": began,
            }
        )
        self._rows.participants.extend(
            {
                "session_id": session_id,
                "user_id": person,
                "role": "owner" if person == owner else "member",
                "last_read_seq": talk.seq if person == owner else chosen.randint(0, talk.seq),
                "joined_at": began,
            }
            for person in participants
        )

    def _moment(self) -> datetime:
        """Some time in the last two months, mostly lately, in the daytime."""
        days = min(self._chosen.expovariate(1 / 15), DAYS - 1) + 1
        day = (self._now - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
        return day + timedelta(hours=self._chosen.triangular(6, 22, 14))


class _Talk:
    """One conversation on its way. `at` is when its last message was written."""

    def __init__(
        self, among: Conversations, session_id: UUID, participants: Sequence[UUID], subject: Subject, began: datetime
    ) -> None:
        self._chosen = among._chosen
        self._writer = among._writer
        self._ids = among._ids
        self._rows = among._rows
        self._price = among._price
        self._session_id = session_id
        self._participants = participants
        self._subject = subject
        self._model = self._chosen.choices(MODELS, (6, 3, 2))[0]
        self._prompt_tokens = 60
        self.seq = 0
        self.at = began

    def hold(self, turns: int) -> None:
        for turn in range(turns):
            sender = self._chosen.choice(self._participants)
            self.at += timedelta(seconds=self._chosen.expovariate(1 / 90) + 5)
            is_room = len(self._participants) > 1
            if is_room and self._chosen.random() < 0.6:
                self._say(sender, self._writer.one_of(words.ROOM_REMARKS[2:], self._subject))
                continue
            templates = words.QUESTIONS if turn == 0 else words.FOLLOW_UPS + words.QUESTIONS[:4]
            text = self._writer.one_of(templates, self._subject)
            self._ask(sender, f"@assistant {text}" if is_room else text)

    def _say(self, sender: UUID, text: str, run_id: UUID | None = None) -> UUID:
        return self._message("user", text, sender_id=sender, run_id=run_id)

    def _ask(self, sender: UUID, text: str) -> None:
        run_id = self._ids.at(self.at)
        asked = self._say(sender, text, run_id)
        asked_at = self.at
        is_failed = self._chosen.random() < _FAILURES
        reply = "" if is_failed else self._writer.answer(self._subject)
        first_ms = int(self._chosen.lognormvariate(6.0, 0.5))
        latency_ms = 10_000 if is_failed else first_ms + len(reply) * self._chosen.randint(4, 9)
        used = None if is_failed else self._usage(text, reply)
        cost = None if used is None else self._price(*self._model, used["prompt_tokens"], used["completion_tokens"])
        answered = {
            "provider": self._model.provider,
            "model": self._model.name,
            "cost": cost,
            "latency_ms": latency_ms,
            "time_to_first_token_ms": None if is_failed else first_ms,
        }
        self.at += timedelta(milliseconds=latency_ms)
        with_tool = not is_failed and self._chosen.random() < _TOOL_CALLS
        reply_id = self._message(
            "assistant",
            reply,
            run_id=run_id,
            parent_id=asked,
            status="failed" if is_failed else "complete",
            error=_ERROR if is_failed else None,
            tools_used=["calculator"] if with_tool else [],
            **answered,
            **(used or {}),
        )
        self._rows.runs.append(
            {
                "session_id": self._session_id,
                "id": run_id,
                "trigger_message_id": asked,
                "reply_message_id": reply_id,
                "status": "failed" if is_failed else "completed",
                "error": _ERROR if is_failed else None,
                "usage": used,
                "attempt": 1,
                "requested_by": sender,
                **answered,
                "created_at": asked_at,
                "started_at": asked_at,
                "finished_at": self.at,
            }
        )
        if with_tool:
            self._tool_call(run_id, reply_id, sender, asked_at)

    def _usage(self, text: str, reply: str) -> dict[str, int]:
        """About four characters are one token, and the whole conversation is read again each time."""
        completion = max(1, len(reply) // 4)
        self._prompt_tokens += len(text) // 4
        used = {"prompt_tokens": self._prompt_tokens, "completion_tokens": completion}
        used["total_tokens"] = self._prompt_tokens + completion
        self._prompt_tokens += completion
        return used

    def _tool_call(self, run_id: UUID, reply_id: UUID, sender: UUID, began: datetime) -> None:
        first, second = self._chosen.randint(2, 14), self._chosen.randint(3, 180)
        took = self._chosen.randint(2, 40)
        self._rows.tool_executions.append(
            {
                "session_id": self._session_id,
                "id": self._ids.at(began),
                "run_id": run_id,
                "message_id": reply_id,
                "round": 1,
                "position": 0,
                "call_id": f"call_{self._chosen.getrandbits(48):012x}",
                "said_characters": 0,
                "tool_name": "calculator",
                "source": "builtin",
                "risk": "safe",
                "repeatable": True,
                "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
                "arguments": {"expression": f"{first} * {second}"},
                "status": "succeeded",
                "result": str(first * second),
                "attempts": 1,
                "duration_ms": took,
                "requested_by": sender,
                "created_at": began,
                "started_at": began,
                "finished_at": began + timedelta(milliseconds=took),
            }
        )

    def _message(self, role: str, content: str, **others: Any) -> UUID:
        self.seq += 1
        message_id = self._ids.at(self.at)
        # All of one table have the same columns.
        empty = dict.fromkeys(
            ("sender_id", "parent_id", "error", "provider", "model", "cost", "latency_ms", "time_to_first_token_ms",
             "prompt_tokens", "completion_tokens", "total_tokens")
        )  # fmt: skip
        self._rows.messages.append(
            {
                "session_id": self._session_id,
                "seq": self.seq,
                "id": message_id,
                "role": role,
                "content": content,
                "status": "complete",
                "tools_used": [],
                "created_at": self.at,
                **empty,
                **others,
            }
        )
        return message_id
