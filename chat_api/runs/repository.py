"""Typed doors to the statements of `statements.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg

from chat_api.attachments.statements import OWNED
from chat_api.config import Plan
from chat_api.kit.db import Database
from chat_api.messages.errors import MessageNotFound
from chat_api.plans.quotas import MESSAGE_QUOTA
from chat_api.runs import statements as sql
from chat_api.runs.documents import SESSION_STATUS
from chat_api.runs.errors import OutcomeUnknown
from chat_api.runs.history import HISTORY, Exchange, earlier
from chat_api.runs.models import RunStatus
from chat_api.runs.prices import PriceTable
from chat_api.runs.session_bot import BOT_NAME, KNOWLEDGE, Knowledge, SessionBot, effective_settings, session_bot
from chat_api.runs.turns import SessionTurns
from chat_api.sessions.hints import EventsAdded, SessionHints
from chat_api.sessions.models import SessionStatus
from shared.contracts.knowledge import MAX_EXCLUDED

_ONE_ACTIVE_RUN = "uq_runs_session_id_active"
_FILE_IS_THERE = "fk_message_attachments_attachment_id_attachments"


@dataclass(frozen=True, slots=True)
class NewMessage:
    session_id: UUID
    sender_id: UUID
    message_id: UUID
    run_id: UUID
    reply_id: UUID
    content: str
    client_id: str | None
    request_hash: bytes
    metadata: dict[str, Any]
    mentions_assistant: bool
    include_related_context: bool = True
    attachment_ids: Sequence[UUID] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored message and the run that answers it, as JSON. `run` is None where no reply is due."""

    message_id: UUID
    run_id: UUID | None
    message: bytes
    run: bytes | None
    request_hash: bytes | None = None
    replayed: bool = False


class ClientIdTaken(Exception):
    """The sender used this client id in this session before."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that can answer runs: the name it leases them under, for how long at a time.

    `history_messages` is how many it shows a model at most.
    """

    owner: str
    lease_seconds: float
    history_messages: int = 1


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a run: valid while the row still names this attempt and this owner."""

    session_id: UUID
    run_id: UUID
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased run with all that its turn needs. `bot` is None also where the session's bot may not be used.

    `asked_by` sent the message that is answered, and `requested_by` wanted the answer. The run `waited` since then, so
    that its quota may have been used up. The run `resumes` when it waited for a decision. `stream_position`
    is set for a run that called tools: it goes on where its reply had `said_characters`, and what it did before took
    `usage`. `history` is what the model is to be shown, where it came with the claim: the holder's `history_messages`.
    """

    lease: Lease
    trigger_message_id: UUID
    reply_message_id: UUID
    asked_by: UUID | None
    requested_by: UUID | None
    waited: bool
    provider: str | None
    model: str | None
    system_prompt: str | None
    settings: dict[str, Any]
    bot_id: UUID | None
    bot: SessionBot | None
    related_session_id: UUID | None
    several_people: bool
    cancelled: bool
    expired: bool
    resumes: bool
    stream_position: int | None
    said_characters: int
    usage: dict[str, Any] | None
    run: bytes
    reply: bytes
    history: Sequence[Exchange] | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends. `status` is final; times are in milliseconds.

    `provider` and `model` answered, as they said themselves; the `asked` ones count where they did not.
    """

    status: RunStatus
    content: str
    stream_length: int
    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    provider: str | None = None
    model: str | None = None
    latency_ms: int | None = None
    time_to_first_token_ms: int | None = None
    citations: list[dict[str, Any]] | None = None
    called_tools: bool = False
    asked_provider: str | None = None
    asked_model: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    run: bytes
    reply: bytes | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`at_once`: the run had not begun, so it has ended without anybody else having to hear of it."""

    session_id: UUID
    was: RunStatus
    at_once: bool
    run: bytes


@dataclass(frozen=True, slots=True)
class Orphan:
    """A run whose process died. `failures` are its starts since it last got further, this one included."""

    lease: Lease
    trigger_message_id: UUID
    requested_by: UUID | None
    cancelled: bool
    content: str
    failures: int
    stream_position: int | None
    said_characters: int
    usage: dict[str, Any] | None
    provider: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class RunState:
    session_id: UUID
    trigger_message_id: UUID
    status: RunStatus
    stream_length: int
    run: bytes
    trigger: bytes | None
    reply: bytes | None


class RunRepository:
    def __init__(self, database: Database, hints: SessionHints, prices: PriceTable) -> None:
        self._database = database
        self._hints = hints
        self._prices = prices
        self._turns = SessionTurns()

    def _tell(self, session_id: UUID, event_seq: int | None) -> None:
        """Every statement here is a commit of its own, so whoever added events says so at once."""
        if event_seq is not None:
            self._hints.tell(session_id, EventsAdded(event_seq))

    async def send(self, new: NewMessage, holder: Holder | None, plan: Plan) -> tuple[Sent, Claim | None] | None:
        """Store a message, its event and its run at once.

        None when the session or the sender's plan refuses it, or a file is not there.

        Where the run need not wait and there is a `holder`, it is leased to it by the same commit. Raises
        `ClientIdTaken`; nothing was stored then, and no number was used up.
        """
        try:
            row = await self._send(new, holder, plan)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != _ONE_ACTIVE_RUN:
                raise ClientIdTaken from None
            # Another run began while we waited for the session: ours waits for it.
            return await self.send(new, None, plan)
        except asyncpg.ForeignKeyViolationError as error:
            if error.constraint_name != _FILE_IS_THERE:
                raise
            return None
        except asyncpg.CheckViolationError as error:
            if error.constraint_name != MESSAGE_QUOTA:
                raise
            return None
        if row is None:
            return None
        self._tell(new.session_id, row["event_seq"])
        run = row["run"]
        sent = Sent(new.message_id, None if run is None else new.run_id, row["message"], run)
        if holder is None or not row["starts"]:
            return sent, None
        claim = _claim(row, new.session_id, holder.owner, waited=False)
        return sent, replace(claim, history=_history(row, new.content))

    async def _send(self, new: NewMessage, holder: Holder | None, plan: Plan) -> asyncpg.Record | None:
        files = (list(new.attachment_ids),) if new.attachment_ids else ()
        async with self._turns.of(new.session_id):
            return await self._database.fetch_row(
                sql.SEND_WITH_FILES if files else sql.SEND,
                new.session_id,
                new.sender_id,
                new.message_id,
                new.content,
                new.client_id,
                new.request_hash,
                new.metadata,
                new.mentions_assistant,
                new.run_id,
                None if holder is None else holder.owner,
                0.0 if holder is None else holder.lease_seconds,
                new.reply_id,
                holder is not None,
                new.include_related_context,
                plan.messages_per_day,
                plan.tokens_per_day,
                1 if holder is None else holder.history_messages,
                *files,
            )

    async def has_files(self, owner_id: UUID, attachment_ids: Sequence[UUID]) -> bool:
        """Whether all of these are there, and the person's own."""
        row = await self._database.fetch_row(OWNED, list(attachment_ids), owner_id)
        return row is not None and row["files"] == len(attachment_ids)

    async def sent_before(self, session_id: UUID, sender_id: UUID, client_id: str) -> Sent | None:
        row = await self._database.fetch_row(sql.SENT_BEFORE, session_id, sender_id, client_id)
        if row is None:
            return None
        return Sent(row["message_id"], row["run_id"], row["message"], row["run"], row["request_hash"], replayed=True)

    async def session_status(self, session_id: UUID, user_id: UUID) -> SessionStatus | None:
        """The session's status, or None when the person does not take part in it."""
        row = await self._database.fetch_row(sql.WHY_REFUSED, session_id, user_id)
        return None if row is None else SessionStatus(row["status"])

    async def regenerate(
        self,
        session_id: UUID,
        user_id: UUID,
        message_id: UUID,
        run_id: UUID,
        key: str | None,
        request_hash: bytes,
        tokens_per_day: int | None,
    ) -> Sent | None:
        """Queue another run for a message. None when the session, or the tokens used today, refuse it.

        Raises `MessageNotFound`. With a key that was used before, what it was used for; its `request_hash` tells
        whether for the same.
        """
        try:
            row = await self._database.fetch_row(
                sql.REGENERATE, session_id, user_id, message_id, run_id, key, request_hash, tokens_per_day
            )
        except asyncpg.UniqueViolationError:
            return await self.regenerated_before(user_id, key)
        if row is None:
            return None
        if row["run"] is None:
            raise MessageNotFound
        return Sent(row["trigger_message_id"], run_id, row["message"], row["run"])

    async def regenerated_before(self, user_id: UUID, key: str | None) -> Sent | None:
        """What the key was used for; None for one that was not."""
        stored = await self._database.fetch_row(sql.STORED_RUN_ID, user_id, key)
        if stored is None:
            return None
        run_id = _uuid_or_none(stored["run_id"])
        state = None if run_id is None else await self.state(run_id)
        if run_id is None or state is None or state.trigger is None:
            # The key was used for something else altogether: no fingerprint can match this one.
            return Sent(user_id, None, b"", None, request_hash=b"", replayed=True)
        return Sent(state.trigger_message_id, run_id, state.trigger, state.run, stored["request_hash"], replayed=True)

    async def claim(self, session_id: UUID, holder: Holder, reply_id: UUID) -> Claim | None:
        """Lease the session's oldest waiting run. None when there is none, or another process was faster."""
        try:
            row = await self._database.fetch_row(sql.CLAIM, session_id, holder.owner, holder.lease_seconds, reply_id)
        except asyncpg.UniqueViolationError:
            return None
        if row is None:
            return None
        self._tell(session_id, row["event_seq"])
        return _claim(row, session_id, holder.owner, waited=True)

    async def history(self, session_id: UUID, trigger_id: UUID, limit: int) -> list[Exchange]:
        rows = await self._database.fetch_rows(HISTORY, session_id, trigger_id, limit)
        return [Exchange(row["content"], row["username"], row["answer"], row["attachments"]) for row in rows]

    async def bot_name(self, session_id: UUID) -> str | None:
        row = await self._database.fetch_row(BOT_NAME, session_id)
        return None if row is None else row["name"]

    async def knowledge(self, bot_id: UUID) -> Knowledge:
        row = await self._database.fetch_row(KNOWLEDGE, bot_id, MAX_EXCLUDED + 1)
        assert row is not None
        return Knowledge(row["has_documents"], row["deleted"])

    async def heartbeat(
        self, owner: str, lease_seconds: float, attempts: Mapping[UUID, int], texts: Mapping[UUID, str]
    ) -> dict[UUID, bool]:
        """Renew leases, by run and attempt, and store what was said so far; returns run → cancel requested, if held."""
        rows = await self._database.fetch_rows(
            sql.HEARTBEAT,
            owner,
            lease_seconds,
            list(texts.keys()),
            list(texts.values()),
            list(attempts.keys()),
            list(attempts.values()),
        )
        return {row["id"]: row["cancelled"] for row in rows}

    async def finish(self, lease: Lease, ending: Ending) -> Ended | None:
        """End a run and its reply together. None when the lease was lost: nothing was written then."""
        called = (OutcomeUnknown().as_json(),) if ending.called_tools else ()
        answered = (ending.provider, ending.model) if ending.provider else (ending.asked_provider, ending.asked_model)
        row = await self._database.fetch_row(
            sql.FINISH_WITH_TOOLS if called else sql.FINISH,
            lease.session_id,
            lease.run_id,
            lease.attempt,
            lease.owner,
            ending.status.value,
            ending.error,
            ending.usage,
            ending.stream_length,
            ending.content,
            _message_status(ending.status),
            ending.provider,
            ending.model,
            ending.latency_ms,
            ending.time_to_first_token_ms,
            ending.citations,
            self._prices.cost(*answered, ending.usage),
            ending.asked_provider,
            ending.asked_model,
            *called,
        )
        if row is None:
            return None
        self._tell(lease.session_id, row["event_seq"])
        return Ended(row["run"], row["reply"])

    async def release(self, lease: Lease) -> bool:
        row = await self._database.fetch_row(sql.RELEASE, lease.session_id, lease.run_id, lease.attempt, lease.owner)
        return row is not None

    async def cancel(self, run_id: UUID, user_id: UUID) -> Cancelled | None:
        """Ask a run to stop. None when the session refuses it, or there is no such run."""
        row = await self._database.fetch_row(sql.CANCEL, run_id, user_id)
        if row is None:
            return None
        self._tell(row["session_id"], row["event_seq"])
        was, now = RunStatus(row["was"]), row["now"]
        at_once = was is RunStatus.QUEUED and now == RunStatus.CANCELLED
        return Cancelled(session_id=row["session_id"], was=was, at_once=at_once, run=row["run"])

    async def visible(self, run_id: UUID, user_id: UUID) -> bytes | None:
        return await self._database.fetch_json(sql.RUN_VISIBLE, run_id, user_id)

    async def state(self, run_id: UUID) -> RunState | None:
        row = await self._database.fetch_row(sql.RUN_STATE, run_id)
        if row is None:
            return None
        return RunState(
            session_id=row["session_id"],
            trigger_message_id=row["trigger_message_id"],
            status=RunStatus(row["status"]),
            stream_length=row["stream_length"],
            run=row["run"],
            trigger=row["trigger"],
            reply=row["reply"],
        )

    async def stands_as(self, run_id: UUID, status: RunStatus, stream_length: int) -> Ended | None:
        """The run and its reply, if that is how they are stored."""
        state = await self.state(run_id)
        if state is None or state.status is not status or state.stream_length != stream_length:
            return None
        return Ended(state.run, state.reply)

    async def status(self, run_id: UUID) -> RunStatus | None:
        row = await self._database.fetch_row(sql.RUN_STATUS, run_id)
        return None if row is None else RunStatus(row["status"])

    async def take_over(self, owner: str, lease_seconds: float, answered: Collection[UUID]) -> list[Orphan]:
        """Lease every run whose own lease ran out, so that its holder, if it still lives, cannot write.

        `answered` are the runs that this process answers now, which are no orphans.
        """
        rows = await self._database.fetch_rows(sql.TAKE_OVER, owner, lease_seconds, list(answered))
        return [
            Orphan(
                lease=Lease(row["session_id"], row["id"], row["attempt"], owner),
                trigger_message_id=row["trigger_message_id"],
                requested_by=row["requested_by"],
                cancelled=row["cancelled"],
                content=row["content"] or "",
                failures=row["attempt"] - row["progress"],
                stream_position=row["stream_position"],
                said_characters=row["said_characters"],
                usage=row["usage"],
                provider=row["provider"],
                model=row["model"],
            )
            for row in rows
        ]

    async def sessions_with_waiting_runs(self, older_than_seconds: float) -> list[UUID]:
        rows = await self._database.fetch_rows(sql.SESSIONS_WITH_WAITING_RUNS, older_than_seconds)
        return [row["session_id"] for row in rows]

    async def session_activity(self, session_id: UUID, user_id: UUID) -> bytes | None:
        return await self._database.fetch_json(SESSION_STATUS, session_id, user_id)


def _claim(row: asyncpg.Record, session_id: UUID, owner: str, *, waited: bool) -> Claim:
    bot = session_bot(row)
    return Claim(
        lease=Lease(session_id, row["run_id"], row["attempt"], owner),
        trigger_message_id=row["trigger_message_id"],
        reply_message_id=row["reply_message_id"],
        asked_by=row["asked_by"],
        requested_by=row["requested_by"],
        waited=waited,
        provider=row["provider"],
        model=row["model"],
        system_prompt=row["system_prompt"],
        settings=effective_settings(row["settings"], bot),
        bot_id=row["bot_id"],
        bot=bot,
        related_session_id=row["related_session_id"],
        several_people=row["participant_count"] > 1,
        cancelled=row["cancelled"],
        expired=row["expired"],
        resumes=row["attempt"] > 1 and row["event_seq"] is not None,
        stream_position=row["stream_position"],
        said_characters=row["said_characters"],
        usage=row["usage"],
        run=row["run"],
        reply=row["reply"],
    )


def _history(row: asyncpg.Record, content: str) -> list[Exchange] | None:
    if row["earlier"] is None:
        return None
    return [*earlier(row["earlier"]), Exchange(content, row["sender_name"], None, row["attachments"])]


def _message_status(status: RunStatus) -> str:
    return "complete" if status is RunStatus.COMPLETED else status.value


def _uuid_or_none(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
