"""Sending a message, asking for another reply, cancelling."""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

import orjson

from chat_api.attachments.errors import AttachmentNotFound
from chat_api.kit.idempotency import IdempotencyKeyReused
from chat_api.kit.models import new_id
from chat_api.plans.errors import QuotaExceeded
from chat_api.plans.quotas import DayQuotas
from chat_api.runs.errors import RunFinished, RunNotFound
from chat_api.runs.events import FIRST_STREAMED_ID, RunEvent, terminal_type
from chat_api.runs.executor import RunExecutor
from chat_api.runs.limits import SendLimit
from chat_api.runs.models import FINAL_STATUSES, RunStatus
from chat_api.runs.repository import Claim, ClientIdTaken, NewMessage, RunRepository, Sent
from chat_api.runs.schemas import MessageCreate
from chat_api.runs.streams import RunStreams
from chat_api.sessions.errors import SessionArchived, SessionNotFound
from chat_api.sessions.models import SessionStatus
from shared.problems import Problem, ServiceUnavailable

_TRIES = 10
"""Of what somebody asks while others leave the session: each time it waits for several of them."""
_MANY_ARE_LEAVING = "Too many people are leaving the session. Nothing was changed; try again."
_ASSISTANT = "assistant"
"""A name that every assistant answers to, beside that of its bot."""


class RunService:
    def __init__(
        self,
        repository: RunRepository,
        executor: RunExecutor,
        streams: RunStreams,
        limit: SendLimit,
        quotas: DayQuotas,
    ) -> None:
        self._limit = limit
        self._quotas = quotas
        self._repository = repository
        self._streams = streams
        self._executor = executor

    async def send(self, session_id: UUID, sender_id: UUID, body: MessageCreate, key: str | None) -> Sent:
        """Store a message and start its run; the message is committed before anything else happens.

        The same client id (or `Idempotency-Key`) gives what was stored the first time. Raises `AttachmentNotFound`
        for a file that is not the sender's own, `TooManyMessages`, and `QuotaExceeded`: of messages, and of tokens
        where a reply is due. Nothing is stored then.
        """
        self._limit.count(sender_id)
        client_id = body.client_id or key
        new = NewMessage(
            session_id=session_id,
            sender_id=sender_id,
            message_id=new_id(),
            run_id=new_id(),
            reply_id=new_id(),
            content=body.content,
            client_id=client_id,
            request_hash=_fingerprint(body.content, body.metadata, *_beyond_text(body)),
            metadata=body.metadata,
            mentions_assistant=await self._mentions_assistant(session_id, body.content),
            include_related_context=body.include_related_context,
            attachment_ids=body.attachment_ids,
        )
        try:
            sent, claim = await self._store(new)
        except ClientIdTaken:
            return await self._sent_before(new)
        except (AttachmentNotFound, SessionArchived, QuotaExceeded) as refusal:
            return await self._sent_before_that(new, refusal)
        if claim is not None:
            await self._executor.begin(claim)
        elif sent.run_id is not None:
            await self._executor.start_next_or_leave_it(session_id)
        return sent

    async def _store(self, new: NewMessage) -> tuple[Sent, Claim | None]:
        """Raises why it was refused. Tried again where somebody left while it waited for the session."""
        for _ in range(_TRIES):
            plan = await self._quotas.plan(new.sender_id)
            stored = await self._repository.send(new, self._executor.vacancy(), plan)
            if stored is not None:
                return stored
            await self._check_writable(new.session_id, new.sender_id)
            if new.attachment_ids and not await self._repository.has_files(new.sender_id, new.attachment_ids):
                raise AttachmentNotFound
            await self._quotas.check_messages(new.sender_id)
            await self._quotas.check_tokens(new.sender_id)
        raise ServiceUnavailable(_MANY_ARE_LEAVING)

    async def _mentions_assistant(self, session_id: UUID, content: str) -> bool:
        if "@" not in content:
            return False
        if _mentions(content, _ASSISTANT):
            return True
        bot_name = await self._repository.bot_name(session_id)
        return bot_name is not None and _mentions(content, bot_name)

    async def regenerate(self, session_id: UUID, user_id: UUID, message_id: UUID, key: str | None) -> Sent:
        """Start another run for the same message. The earlier replies stay.

        Raises `MessageNotFound`, `TooManyMessages`, and `QuotaExceeded` for tokens.
        """
        self._limit.count(user_id)
        fingerprint = _fingerprint(f"{session_id} {message_id}", {})
        for _ in range(_TRIES):
            tokens = (await self._quotas.plan(user_id)).tokens_per_day
            sent = await self._repository.regenerate(
                session_id, user_id, message_id, new_id(), key, fingerprint, tokens
            )
            if sent is not None:
                break
            await self._check_writable(session_id, user_id)
            try:
                await self._quotas.check_tokens(user_id)
            except QuotaExceeded:
                sent = None if key is None else await self._repository.regenerated_before(user_id, key)
                if sent is None:
                    raise
                break
        else:
            raise ServiceUnavailable(_MANY_ARE_LEAVING)
        if sent.request_hash is not None and sent.request_hash != fingerprint:
            raise IdempotencyKeyReused
        await self._executor.start_next_or_leave_it(session_id)
        return sent

    async def cancel(self, run_id: UUID, user_id: UUID) -> bytes:
        """Stop a run. A waiting one is over at once; a running one within a second, keeping what it said."""
        for _ in range(_TRIES):
            cancelled = await self._repository.cancel(run_id, user_id)
            if cancelled is not None:
                break
            if await self._repository.visible(run_id, user_id) is None:
                raise RunNotFound
        else:
            raise ServiceUnavailable(_MANY_ARE_LEAVING)
        if cancelled.was in FINAL_STATUSES and cancelled.was is not RunStatus.CANCELLED:
            raise RunFinished
        if cancelled.at_once:
            ended = RunEvent(FIRST_STREAMED_ID, terminal_type(RunStatus.CANCELLED), cancelled.run)
            await self._streams.conclude(run_id, FIRST_STREAMED_ID - 1, [ended])
        if cancelled.was is RunStatus.AWAITING_APPROVAL:
            # Nobody had it. Whoever claims it finds that it is over.
            await self._executor.start_next_or_leave_it(cancelled.session_id)
        self._executor.cancel(run_id)
        return cancelled.run

    async def _sent_before_that(self, new: NewMessage, refusal: Problem) -> Sent:
        """What was stored before its files went, the session was archived or the quota used up: it is given again."""
        if new.client_id is None:
            raise refusal
        sent = await self._repository.sent_before(new.session_id, new.sender_id, new.client_id)
        if sent is None:
            raise refusal
        if sent.request_hash != new.request_hash:
            raise IdempotencyKeyReused
        return sent

    async def _sent_before(self, new: NewMessage) -> Sent:
        assert new.client_id is not None
        if await self._repository.session_status(new.session_id, new.sender_id) is None:
            raise SessionNotFound
        sent = await self._repository.sent_before(new.session_id, new.sender_id, new.client_id)
        if sent is None or sent.request_hash != new.request_hash:
            raise IdempotencyKeyReused
        return sent

    async def _check_writable(self, session_id: UUID, user_id: UUID) -> None:
        """Why nothing was written, if it is for the session's sake: raises `SessionNotFound` and `SessionArchived`."""
        status = await self._repository.session_status(session_id, user_id)
        if status is None:
            raise SessionNotFound
        if status is SessionStatus.ARCHIVED:
            raise SessionArchived


def _mentions(content: str, name: str) -> bool:
    """Whether a message speaks to somebody as `@name`, which is not part of an address or of a longer name."""
    return re.search(rf"(?<![\w@])@{re.escape(name)}(?!\w)", content, re.IGNORECASE) is not None


def _fingerprint(content: str, metadata: dict[str, object], *others: object) -> bytes:
    return hashlib.sha256(orjson.dumps([content, metadata, *others], option=orjson.OPT_SORT_KEYS)).digest()


def _beyond_text(body: MessageCreate) -> list[object]:
    """What makes two messages of the same words different. Nothing for most, whose fingerprints stay what they were."""
    if not body.attachment_ids and body.include_related_context:
        return []
    return [[str(attachment) for attachment in body.attachment_ids], body.include_related_context]
