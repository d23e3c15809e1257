"""The job that tells an endpoint of an event: once if all goes well, at least once whatever dies meanwhile.

A process that dies between the endpoint's answer and the commit sends the same `webhook-id` again. An attempt that
failed is tried again after the pauses below; no event waits for another, so they may arrive in any order, and carry
their number in the session.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.jobs import Postponed
from chat_api.kit.outbox import Job, LeaseLost, hold, settle
from chat_api.runs.event_statements import EVENTS_AFTER
from chat_api.webhooks.errors import (
    AddressNotAllowed,
    EndpointPaused,
    EndpointRefused,
    EndpointTimedOut,
    EndpointUnreachable,
    EventGone,
    SecretUnreadable,
    WebhookDisabled,
)
from chat_api.webhooks.fair_share import put_off
from chat_api.webhooks.models import DeliveryStatus, DisabledReason, WebhookDelivery, WebhookEndpoint
from chat_api.webhooks.repository import DeliveryRepository
from chat_api.webhooks.secrets import WebhookSecrets
from chat_api.webhooks.sender import WebhookSender
from chat_api.webhooks.signing import signed_headers
from shared.logging import get_logger
from shared.problems import Problem

log = get_logger("webhooks")

PAUSES_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
"""Between the attempts: eight of them in a day and a half. Each is lengthened by up to a tenth."""
GIVEN_UP_AFTER = timedelta(days=5)
"""An endpoint that failed for so long, without one success, is disabled."""
DELIVERIES_KEPT = timedelta(days=30)
_LONGEST_REST_SECONDS = 300
_LOOK_AGAIN_SECONDS = 5.0
_GONE = 410


@dataclass(frozen=True, slots=True)
class _Letter:
    """What an attempt needs, read in one unit that is over before the endpoint is called."""

    delivery: WebhookDelivery
    endpoint: WebhookEndpoint
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How an attempt ended: with a status, or a problem, or both."""

    status: int | None
    problem: Problem | None
    milliseconds: int


class DeliverWebhook:
    """Handles `webhook.deliver`. `at_once` bounds the attempts at one endpoint: a slow one leaves slots free."""

    # It gives up by itself: waiting for an endpoint that rests is not an attempt.
    limit = None

    def __init__(
        self, database: Database, sender: WebhookSender, secrets: WebhookSecrets, clock: Clock, *, at_once: int
    ) -> None:
        self._database = database
        self._sender = sender
        self._secrets = secrets
        self._clock = clock
        self._at_once = at_once
        self._under_way: Counter[UUID] = Counter()

    async def run(self, job: Job) -> None:
        letter = await self._begin(job)
        if letter is None:
            return
        with self._a_place_at(letter.endpoint.id):
            body = await self._body(letter.delivery)
            if body is None:
                await self._end(job, letter, DeliveryStatus.CANCELLED, _Outcome(None, EventGone(), 0))
                return
            outcome = await self._attempt(letter, body)
        await self._record(job, letter, outcome)

    async def _begin(self, job: Job) -> _Letter | None:
        """Raises `Postponed` while the endpoint rests. None: there is nothing to do any more."""
        now = self._clock.now()
        async with self._database.unit() as db:
            if not await hold(db, job):
                raise LeaseLost
            found = await DeliveryRepository(db).find(job.subject_id)
            if found is None:
                await settle(db, job)
                return None
            delivery, endpoint = found
            if endpoint.disabled_at is not None:
                await self._write_end(db, delivery, DeliveryStatus.CANCELLED, problem=_told(WebhookDisabled()))
                await settle(db, job)
                return None
            rest = 0.0 if endpoint.paused_until is None else (endpoint.paused_until - now).total_seconds()
            if rest <= 0 and endpoint.failures and not self._has_a_place_at(endpoint.id):
                # It did not answer last time, and is being tried: what comes of that is known in a moment.
                rest = _LOOK_AGAIN_SECONDS
            if rest > 0:
                await put_off(db, endpoint.id, rest)
            keys = [endpoint.secret]
            if endpoint.previous_secret is not None and endpoint.previous_secret_until is not None:
                keys += [endpoint.previous_secret] if endpoint.previous_secret_until > now else []
        if rest > 0:
            raise Postponed(EndpointPaused(), after=rest + random.uniform(0, 1))  # noqa: S311 - spreads, guards nothing
        return _Letter(delivery, endpoint, tuple(keys))

    def _has_a_place_at(self, endpoint_id: UUID) -> bool:
        return self._under_way[endpoint_id] < self._at_once

    @contextmanager
    def _a_place_at(self, endpoint_id: UUID) -> Iterator[None]:
        if not self._has_a_place_at(endpoint_id):
            raise Postponed(EndpointPaused())
        self._under_way[endpoint_id] += 1
        try:
            yield
        finally:
            self._under_way[endpoint_id] -= 1
            if not self._under_way[endpoint_id]:
                del self._under_way[endpoint_id]

    async def _body(self, delivery: WebhookDelivery) -> bytes | None:
        """What is told: the event as it is now. None: it is gone with its session."""
        told: dict[str, Any] = {"type": delivery.type, "timestamp": delivery.created_at}
        if delivery.session_id is None or delivery.event_seq is None:
            return orjson.dumps({**told, "data": {}}, option=_DATES)
        row = await self._database.fetch_row(EVENTS_AFTER, delivery.session_id, delivery.event_seq - 1, 1)
        if row is None or row["event_seq"] != delivery.event_seq:
            return None
        frame = orjson.loads(row["frame"])
        # The frame's own type: an event about a message that was deleted since says so, and nothing else.
        return orjson.dumps({**told, **frame}, option=_DATES)

    async def _attempt(self, letter: _Letter, body: bytes) -> _Outcome:
        began = time.monotonic()
        status: int | None = None
        problem: Problem | None = None
        try:
            keys = [self._secrets.read(key) for key in letter.keys]
            moment = int(self._clock.now().timestamp())
            headers = signed_headers(str(letter.delivery.id), moment, body, keys)
            status = await self._sender.post(letter.endpoint.url, headers, body)
            if not 200 <= status < 300:
                problem = EndpointRefused(f"The endpoint answered {status}, and not 200 to 299.")
        except (AddressNotAllowed, EndpointTimedOut, EndpointUnreachable, SecretUnreadable) as failure:
            problem = failure
        return _Outcome(status, problem, round((time.monotonic() - began) * 1000))

    async def _record(self, job: Job, letter: _Letter, outcome: _Outcome) -> None:
        """Raises `Postponed` where it is tried again."""
        attempts = letter.delivery.attempts + 1
        log.info(
            "webhook.attempted",
            delivery_id=letter.delivery.id,
            webhook_id=letter.endpoint.id,
            attempt=attempts,
            status=outcome.status,
            code=None if outcome.problem is None else outcome.problem.code,
            milliseconds=outcome.milliseconds,
        )
        if outcome.problem is None:
            await self._end(job, letter, DeliveryStatus.DELIVERED, outcome)
        elif attempts > len(PAUSES_SECONDS) or outcome.status == _GONE:
            await self._end(job, letter, DeliveryStatus.FAILED, outcome)
        else:
            pause = PAUSES_SECONDS[attempts - 1] * random.uniform(1, 1.1)  # noqa: S311 - spreads, guards nothing
            async with self._database.unit() as db:
                if not await hold(db, job):
                    raise LeaseLost
                await DeliveryRepository(db).write(
                    letter.delivery.id,
                    attempts=attempts,
                    response_status=outcome.status,
                    problem=_told(outcome.problem),
                    duration_ms=outcome.milliseconds,
                    next_attempt_at=self._clock.now() + timedelta(seconds=pause),
                )
                await self._note_at_endpoint(db, letter.endpoint.id, outcome)
            raise Postponed(outcome.problem, after=pause)

    async def _end(self, job: Job, letter: _Letter, status: DeliveryStatus, outcome: _Outcome) -> None:
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost
            await self._write_end(
                db,
                letter.delivery,
                status,
                attempts=letter.delivery.attempts + (status is not DeliveryStatus.CANCELLED),
                response_status=outcome.status,
                problem=_told(outcome.problem),
                duration_ms=outcome.milliseconds,
            )
            if status is not DeliveryStatus.CANCELLED:
                await self._note_at_endpoint(db, letter.endpoint.id, outcome)

    async def _write_end(
        self, db: AsyncSession, delivery: WebhookDelivery, status: DeliveryStatus, **values: Any
    ) -> None:
        await DeliveryRepository(db).write(
            delivery.id, status=status.value, finished_at=self._clock.now(), next_attempt_at=None, **values
        )

    async def _note_at_endpoint(self, db: AsyncSession, endpoint_id: UUID, outcome: _Outcome) -> None:
        """A success forgets all failures. A failure lets the endpoint rest, a little longer each time."""
        endpoint = await DeliveryRepository(db).lock_endpoint(endpoint_id)
        if endpoint is None:
            return
        now = self._clock.now()
        if outcome.problem is None:
            endpoint.failures, endpoint.failing_since, endpoint.paused_until = 0, None, None
            return
        endpoint.failures += 1
        endpoint.failing_since = endpoint.failing_since or now
        rest = min(2.0 ** min(endpoint.failures - 1, 10), _LONGEST_REST_SECONDS)
        endpoint.paused_until = now + timedelta(seconds=rest)
        if endpoint.disabled_at is not None:
            return
        if outcome.status == _GONE:
            endpoint.disabled_at, endpoint.disabled_reason = now, DisabledReason.GONE.value
        elif now - endpoint.failing_since > GIVEN_UP_AFTER:
            endpoint.disabled_at, endpoint.disabled_reason = now, DisabledReason.FAILING.value
        else:
            return
        log.warning("webhook.disabled", webhook_id=endpoint_id, reason=endpoint.disabled_reason)


async def forget_deliveries(database: Database, clock: Clock) -> int:
    """Delete the log of what ended 30 days ago; returns how many."""
    async with database.unit() as db:
        return await DeliveryRepository(db).forget_before(clock.now() - DELIVERIES_KEPT)


_DATES = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def _told(problem: Problem | None) -> dict[str, str] | None:
    return None if problem is None else {"code": problem.code, "title": problem.title, "detail": problem.detail}
