"""The limits of each request: by whom, how many, and what the answer says of it."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from starlette.requests import Request

from chat_api.auth.actors import Actor
from chat_api.auth.errors import RateLimited, TooManySignIns
from chat_api.auth.rate_limiter import RateLimiter
from chat_api.auth.rate_windows import Allowance, Verdict
from chat_api.config import ApiSettings, Plan
from shared.web.middleware import answer_headers

RATE_LIMIT_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy")

_LIMIT = b"ratelimit-limit"
_IPV6_PREFIX = 64
"""What one customer of a provider has: they may take another address of it for each request."""


class Plans(Protocol):
    """What people may do. The plans themselves belong to a layer above."""

    async def of(self, user_id: UUID) -> Plan: ...


class RequestLimits:
    """One per process."""

    def __init__(self, limiter: RateLimiter, plans: Plans, settings: ApiSettings) -> None:
        self._limiter = limiter
        self._plans = plans
        self._settings = settings

    async def admit(self, request: Request, actor: Actor) -> None:
        """Count the request, once, whoever asks how often. Raises `RateLimited`.

        By a person, whatever credential they use, and beside that by each of their API keys: one program that runs
        wild leaves room for the others.
        """
        headers = answer_headers(request.scope)
        if any(name == _LIMIT for name, _ in headers):
            return
        verdict = await self._limiter.admit(self._allowances(actor, await self._plans.of(actor.user_id)))
        if verdict is None:
            return
        headers.extend(rate_limit_headers(verdict))
        if not verdict.admitted:
            refusal = RateLimited(retry_after=_whole(verdict.free_in))
            refusal.user_id = actor.user_id
            raise refusal

    async def admit_sign_in(self, request: Request, account: str | None) -> None:
        """Count an attempt to become somebody: by address, and by address and account where one is named.

        By both, and not by the account alone: nobody can keep others from signing in. Raises `TooManySignIns`.
        """
        address = caller_address(request)
        allowances = [Allowance(f"address:{address}", self._settings.address_sign_ins_per_minute)]
        if account is not None:
            allowances.append(Allowance(f"account:{address}:{account.lower()}", self._settings.sign_ins_per_minute))
        verdict = await self._limiter.admit(allowances)
        if verdict is None:
            return
        answer_headers(request.scope).extend(rate_limit_headers(verdict))
        if not verdict.admitted:
            raise TooManySignIns(retry_after=_whole(verdict.free_in))

    @staticmethod
    def _allowances(actor: Actor, plan: Plan) -> Sequence[Allowance]:
        allowances = []
        if plan.requests_per_minute is not None:
            allowances.append(Allowance(f"user:{actor.user_id}", plan.requests_per_minute))
        if actor.api_key_id is not None and plan.key_requests_per_minute is not None:
            allowances.append(Allowance(f"key:{actor.api_key_id}", plan.key_requests_per_minute))
        return allowances


def rate_limit_headers(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    """The fields of draft-ietf-httpapi-ratelimit-headers, as they are widely understood (its versions to 07)."""
    amount = verdict.allowance.amount
    return [
        (_LIMIT, b"%d" % amount),
        (b"ratelimit-remaining", b"%d" % verdict.remaining),
        (b"ratelimit-reset", b"%d" % _whole(verdict.resets_in)),
        (b"ratelimit-policy", b"%d;w=%d" % (amount, verdict.allowance.seconds)),
    ]


def caller_address(request: Request) -> str:
    """Where a request comes from, as the server was told; of IPv6 the part that names a customer."""
    host = "" if request.client is None else request.client.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return host


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
